"""Tables: CSV and Parquet, made into numbers by the roles of their columns."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from tasks.data.dataset import MISSING, Column
from tasks.data.raw import RawData, encode_labels, examples, located, require

MAX_CATEGORIES: Final = 1000

Names = Sequence[str] | str


@dataclass(frozen=True)
class Roles:
    """Which column is what. None for numeric or categorical: every remaining column of that type."""

    target: str
    numeric: tuple[str, ...] | None
    categorical: tuple[str, ...] | None
    ignore: tuple[str, ...]
    slices: tuple[str, ...]
    group: str | None
    split: str | None
    id: str | None

    def named(self) -> dict[str, tuple[str, ...]]:
        """Role -> the columns it names."""
        values = {role: getattr(self, role) for role in self.__dataclass_fields__}
        return {role: (value,) if isinstance(value, str) else tuple(value or ()) for role, value in values.items()}

    def apart(self) -> set[str]:
        """Columns that cannot be features unless numeric or categorical names them."""
        named = self.named()
        return {name for role in ("target", "ignore", "group", "split", "id") for name in named[role]}

    def text(self) -> set[str]:
        """Columns read as text, so that 007 stays 007."""
        named = self.named()
        return {name for role in ("target", "categorical", "group", "split", "id") for name in named[role]}

    def check(self, header: Sequence[str], where: str) -> None:
        """Raise ValueError where a role names no column of `header`, or two that exclude each other."""
        twice = [name for position, name in enumerate(header) if name in header[:position]]
        if twice:
            raise ValueError(f"{where}: two columns are called '{twice[0]}'; rename one")
        named = self.named()
        for role, names in named.items():
            for name in names:
                require(name, header, f"{where}: {role} column")
        for name in {*named["numeric"], *named["categorical"]} & {self.target, self.split, self.id}:
            raise ValueError(f"{where}: '{name}' cannot be a feature too; it is the target, split or id")
        for name in {*named["numeric"]} & {*named["categorical"]}:
            raise ValueError(f"{where}: '{name}' is in numeric and in categorical; choose one")
        if self.target in {*self.slices, self.group, self.split, self.id}:
            raise ValueError(f"{where}: target '{self.target}' cannot be slices, group, split or id as well")


def csv(
    path: str,
    target: str,
    *,
    numeric: Names | None = None,
    categorical: Names | None = None,
    ignore: Names = (),
    slices: Names = (),
    group: str | None = None,
    split: str | None = None,
    id: str | None = None,
    delimiter: str = ",",
    root: Path = Path(),
) -> RawData:
    """A table in a CSV file with a header, UTF-8.

    x: float32 (n, features) in the order of the file; a categorical column becomes one 0/1 column per category.
    Every column is a feature but target, ignore, group, split and id. Empty, NA, null and the like mean missing: NaN
    in a numeric column, which validate refuses; the category "(missing)" in a categorical one; an error in the target.

    Args:
        path: the file, from the project's folder.
        target: column of the classes; they are sorted by name, or by number if all are numbers.
        numeric: the numeric features; by default all that hold only numbers.
        categorical: the categorical features; by default all others.
        ignore: columns that are no features.
        slices: columns by which figures are reported too; features all the same unless ignored.
        group: column whose equal values are never split up.
        split: column that says train, test or validation.
        id: column that names the rows; by default they are numbered from 0.
        delimiter: one character.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no valid CSV, no such column, a numeric column that holds text, too many categories.
    """
    place = located(root, path)
    roles = _roles(target, numeric, categorical, ignore, slices, group, split, id)
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        try:
            head = pd.read_csv(place, sep=delimiter, header=None, nrows=1, dtype=str, keep_default_na=False)
            header = [str(name) for name in head.iloc[0]]
            roles.check(header, str(place))
            types: dict[Any, Any] = dict.fromkeys(roles.text(), str)
            frame = pd.read_csv(place, sep=delimiter, dtype=types, index_col=False, low_memory=False)
        except (pd.errors.EmptyDataError, pd.errors.ParserError, pd.errors.ParserWarning, UnicodeError) as error:
            raise ValueError(f"{place}: no valid CSV: {' '.join(str(error).split())}") from None
    return from_frame(frame, roles, place)


def parquet(
    path: str,
    target: str,
    *,
    numeric: Names | None = None,
    categorical: Names | None = None,
    ignore: Names = (),
    slices: Names = (),
    group: str | None = None,
    split: str | None = None,
    id: str | None = None,
    root: Path = Path(),
) -> RawData:
    """A table in a Parquet file; everything else as in `csv`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no valid Parquet file, no such column, a column that holds neither numbers nor text.
    """
    place = located(root, path)
    roles = _roles(target, numeric, categorical, ignore, slices, group, split, id)
    try:
        frame = pd.read_parquet(place)
    except (ValueError, OSError) as error:
        raise ValueError(f"{place}: no valid Parquet file: {' '.join(str(error).split())}") from None
    frame = frame.reset_index(drop=frame.index.name is None)
    roles.check([str(name) for name in frame.columns], str(place))
    return from_frame(frame, roles, place)


def _roles(
    target: str, numeric: Names | None, categorical: Names | None, ignore: Names, slices: Names, *single: str | None
) -> Roles:
    def listed(names: Names) -> tuple[str, ...]:
        return (names,) if isinstance(names, str) else tuple(names)

    numbers = None if numeric is None else listed(numeric)
    categories = None if categorical is None else listed(categorical)
    return Roles(target, numbers, categories, listed(ignore), listed(slices), *single)


def from_frame(frame: pd.DataFrame, roles: Roles, path: Path) -> RawData:
    """Make the rows of `frame` into samples; `path` is where they came from.

    Raises:
        ValueError: a feature does not fit its kind, or there are no features or rows.
    """
    where = str(path)
    if frame.empty:
        raise ValueError(f"{where}: has no rows")
    y, classes = encode_labels(frame[roles.target], f"{where}: target '{roles.target}'")
    kinds = {name: _kind(frame[name], roles, f"{where}: column '{name}'") for name in frame.columns}
    columns, parts = [], []
    for name, kind in kinds.items():
        if kind == "numeric":
            parts.append(_numbers(frame[name], f"{where}: column '{name}'")[:, None])
            columns.append(Column(name=name, kind="numeric"))
        elif kind == "categorical":
            coded, categories = _one_hot(frame[name], f"{where}: column '{name}'")
            parts.append(coded)
            columns.append(Column(name=name, kind="categorical", categories=categories))
    if not columns:
        raise ValueError(f"{where}: no column is a feature; name some in numeric or categorical")
    extra = filter(None, (*roles.slices, roles.group, roles.split))
    kept = list(dict.fromkeys([*(column.name for column in columns), *extra]))
    if "id" in kept:
        raise ValueError(f"{where}: column 'id' has the name of the row names; name it as id, in ignore, or rename it")
    ids = [frame[roles.id].rename("id")] if roles.id else []
    table = pd.concat([*ids, frame[kept]], axis="columns")
    return RawData(
        np.concatenate(parts, axis=1),
        y,
        classes,
        table,
        tuple(columns),
        slices=roles.slices,
        group=roles.group,
        given_split=roles.split,
        name=path.stem,
    )


def _kind(values: pd.Series[Any], roles: Roles, where: str) -> Literal["numeric", "categorical"] | None:
    name = str(values.name)
    named = roles.named()
    if name in named["numeric"]:
        return "numeric"
    if name in named["categorical"]:
        return "categorical"
    if name in roles.apart():
        return None
    if pd.api.types.is_numeric_dtype(values):
        return "numeric" if roles.numeric is None else None
    if roles.categorical is not None:
        return None
    held = pd.api.types.infer_dtype(values, skipna=True)
    if held not in ("string", "categorical", "boolean", "empty"):
        raise ValueError(f"{where} holds {held}; convert it to numbers or text, or name it in ignore")
    _refuse_stray_text(values, where)
    return "categorical"


def _refuse_stray_text(values: pd.Series[Any], where: str) -> None:
    """A column of numbers with a few words in it is a mistake more often than a category."""
    present = values.dropna()
    parsed = pd.to_numeric(present, errors="coerce").notna() if len(present) else present
    if 0 < (~parsed).sum() < len(present) / 2:
        wrong = present[~parsed]
        raise ValueError(
            f"{where} holds numbers but in {len(wrong)} of {len(values)} rows, e.g. {_rows(wrong)}; "
            "mend them, or name the column in categorical"
        )


def _numbers(values: pd.Series[Any], where: str) -> npt.NDArray[np.float32]:
    numbers = pd.to_numeric(values, errors="coerce")
    wrong = values[numbers.isna() & values.notna()]
    if len(wrong):
        raise ValueError(
            f"{where} is no number in {len(wrong)} of {len(values)} rows, e.g. {_rows(wrong)}; is it categorical?"
        )
    with np.errstate(over="ignore"):  # too large for float32 becomes infinite, which validate refuses
        return numbers.to_numpy(dtype=np.float64, na_value=np.nan).astype(np.float32)


def _one_hot(values: pd.Series[Any], where: str) -> tuple[npt.NDArray[np.float32], tuple[str, ...]]:
    """(n, categories) of 0 and 1, and the categories: sorted, the missing one last."""
    text = values.astype(str).where(values.notna(), MISSING)
    categories = sorted(set(text) - {MISSING}) + [MISSING] * bool((text == MISSING).any())
    if len(categories) > MAX_CATEGORIES:
        raise ValueError(
            f"{where} has {len(categories):,} categories, {MAX_CATEGORIES:,} at most; name it in ignore, or as id"
        )
    codes = pd.Categorical(text, categories=categories).codes
    coded = np.zeros((len(values), len(categories)), np.float32)
    coded[np.arange(len(values)), codes] = 1
    return coded, tuple(categories)


def _rows(values: pd.Series[Any]) -> str:
    return examples(_shown(values.items()))


def _shown(items: Iterable[tuple[Any, Any]]) -> Iterable[str]:
    return (f"{value!r} (row {row})" for row, value in items)
