"""Figures that describe a data set: per image, per input column and per class; all in bounded memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from tasks.data.dataset import Card, Column

BLOCK_BYTES: Final = 1 << 23
MIN_ROWS: Final = 20
MIN_CHANGES: Final = 8

Array = npt.NDArray[Any]


def blocks(x: Array) -> Iterator[Array]:
    """(rows, values per sample) pieces of x, in order, each of some megabytes."""
    rows = max(1, BLOCK_BYTES // max(1, x[:1].nbytes))
    for start in range(0, len(x), rows):
        yield np.ascontiguousarray(x[start : start + rows]).reshape(-1, int(np.prod(x.shape[1:])))


def content_hashes(x: Array) -> list[str]:
    """SHA-1 of each sample's bytes: equal for exact duplicates, and for nothing else."""
    return [hashlib.sha1(row, usedforsecurity=False).hexdigest() for block in blocks(x) for row in block]


def image_statistics(x: Array) -> pd.DataFrame:
    """Height, width, channels, mean, std, min, max and nan_fraction of each image of (n, channels, height, width).

    The figures are float32, so that the last bit of a sum cannot change the hash of the data on another machine.
    """
    with np.errstate(invalid="ignore", over="ignore"):  # images with NaN or Inf get NaN figures
        parts = [np.stack(_statistics(block), axis=1) for block in blocks(x)]
    figures = pd.DataFrame(
        np.concatenate(parts), columns=["mean", "std", "min", "max", "nan_fraction"], dtype=np.float32
    )
    channels, height, width = x.shape[1:]
    sizes = pd.DataFrame({"height": height, "width": width, "channels": channels}, index=figures.index)
    return pd.concat([sizes, figures], axis="columns")


def _statistics(block: Array) -> list[Array]:
    values = block.astype(np.float64)
    nan = np.isnan(values).mean(axis=1)
    return [values.mean(axis=1), values.std(axis=1), values.min(axis=1), values.max(axis=1), nan]


@dataclass(frozen=True)
class Scan:
    """One pass over x. Per sample: non_finite (n,). Per value of a sample: nan, inf, low, high."""

    non_finite: npt.NDArray[np.int64]
    nan: npt.NDArray[np.int64]
    inf: npt.NDArray[np.int64]
    low: Array
    high: Array


def scan(x: Array) -> Scan:
    """Count what is not finite in x, and find the limits of each of its columns; NaN is left out of the limits."""
    width = int(np.prod(x.shape[1:]))
    nan, inf = np.zeros(width, np.int64), np.zeros(width, np.int64)
    low, high = [], []
    non_finite = []
    floating = x.dtype.kind == "f"
    for block in blocks(x):
        low.append(np.fmin.reduce(block, axis=0))
        high.append(np.fmax.reduce(block, axis=0))
        if floating:
            is_nan, is_inf = np.isnan(block), np.isinf(block)
            nan += is_nan.sum(axis=0)
            inf += is_inf.sum(axis=0)
            non_finite.append((is_nan | is_inf).sum(axis=1))
        else:
            non_finite.append(np.zeros(len(block), np.int64))
    return Scan(np.concatenate(non_finite), nan, inf, np.fmin.reduce(low), np.fmax.reduce(high))


def column_table(found: Scan, y: npt.NDArray[np.int64], table: pd.DataFrame, card: Card) -> pd.DataFrame:
    """One row per input column, or per channel of images: column, nan, inf, constant, tells_label.

    Tabular data whose rows were named by the user have a row `id` as well, which only tells_label is about.
    """
    if card.kind == "image":
        names = [f"channel {index}" for index in range(card.input_shape[0])]
        widths = [int(np.prod(card.input_shape[1:]))] * len(names)
        tells = [False] * len(names)
    else:
        names = [column.name for column in card.columns]
        widths = [max(1, len(column.categories)) for column in card.columns]
        tells = [_column_tells_label(column, table[column.name], y) for column in card.columns]
    starts = np.cumsum([0, *widths[:-1]])
    columns = pd.DataFrame(
        {
            "column": names,
            "nan": np.add.reduceat(found.nan, starts),
            "inf": np.add.reduceat(found.inf, starts),
            "constant": np.fmin.reduceat(found.low, starts) == np.fmax.reduceat(found.high, starts),
            "tells_label": tells,
        }
    )
    if not named_by_user(table["id"]):
        return columns
    own = {"column": "id", "nan": 0, "inf": 0, "constant": False, "tells_label": tells_label(table["id"], y)}
    return pd.concat([columns, pd.DataFrame([own])], ignore_index=True)


def _column_tells_label(column: Column, values: pd.Series[Any], y: npt.NDArray[np.int64]) -> bool:
    """A categorical column identifies rows if it has a category for every second of them, or more."""
    if column.kind == "categorical":
        return 2 * len(column.categories) > len(y) >= MIN_ROWS
    return is_identifier(values) and tells_label(values, y)


def named_by_user(ids: pd.Series[Any]) -> bool:
    """Whether these are not just the row numbers."""
    return not (pd.api.types.is_integer_dtype(ids) and (ids.to_numpy() == np.arange(len(ids))).all())


def is_identifier(values: pd.Series[Any]) -> bool:
    """Whether a numeric column looks like a row's name: whole numbers, no two alike."""
    numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
    if not np.isfinite(numbers).all() or numbers.max() - numbers.min() < len(numbers) - 1:
        return False
    return bool((numbers % 1 == 0).all()) and len(np.unique(numbers)) == len(numbers)


def tells_label(values: pd.Series[Any], y: npt.NDArray[np.int64]) -> bool:
    """Whether rows sorted by `values` are sorted by class, or nearly so.

    In an order that has nothing to do with the classes, neighbours differ in class about n - sum(n_c^2) / n times.
    Here they must differ at most a tenth as often, or only where one class ends and the next begins. Nothing is
    concluded where fewer than 8 changes were to be expected. By number if all values are numbers, otherwise by text.
    """
    counts = np.bincount(y)
    unrelated = len(y) - float((counts.astype(float) ** 2).sum()) / len(y)
    if unrelated < MIN_CHANGES:
        return False
    numbers = pd.to_numeric(values, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    keys = values.astype(str).to_numpy(dtype=str) if np.isnan(numbers).any() else numbers
    changes = int((np.diff(y[np.argsort(keys, kind="stable")]) != 0).sum())
    return changes <= max(int((counts > 0).sum()) - 1, 0.1 * unrelated)
