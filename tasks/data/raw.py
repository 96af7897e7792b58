"""What a data source hands to ingest, and the checks every source passes through."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from tasks.data.dataset import Column

SPLITS: Final = ("train", "validation", "test")
SHOWN: Final = 3


@dataclass(frozen=True)
class RawData:
    """Samples as a source found them; row i of x, y and table is the same sample.

    x: (n, features) numbers for tables, (n, channels, height, width) for images, unscaled.
    y: (n,) integers, indices into `classes`.
    table: further columns of the samples; `id`, where it is among them, names the rows. Tabular features belong
        here as they were read, beside `columns`, which says how x was made of them.
    unit: of the numbers in x, for people.
    slices, group, given_split: columns of `table`, as in Card; given_split holds train, test and, at will, validation.
    """

    x: npt.NDArray[Any]
    y: npt.NDArray[Any]
    classes: tuple[str, ...]
    table: pd.DataFrame = field(default_factory=pd.DataFrame)
    columns: tuple[Column, ...] = ()
    unit: str = ""
    slices: tuple[str, ...] = ()
    group: str | None = None
    given_split: str | None = None
    name: str = ""

    @property
    def is_image(self) -> bool:
        """Whether x holds images, not rows of a table."""
        return self.x.ndim == 4


def as_raw(made: object, where: str) -> RawData:
    """Check what a source returned: RawData, `(x, y)` or `(x, y, table)`.

    x may also be (n, height, width), grey images; y may also hold class names. 64-bit floats are stored as 32-bit.
    where: the source, for messages.

    Raises:
        ValueError: anything else, or parts that disagree.
    """
    if isinstance(made, RawData):
        raw = made
    elif isinstance(made, tuple) and len(made) in (2, 3):
        x = np.asarray(made[0])
        y, classes = encode_labels(made[1], where)
        table = made[2] if len(made) == 3 else pd.DataFrame()
        raw = RawData(x[:, None] if x.ndim == 3 else x, y, classes, table)
    else:
        raise ValueError(f"{where} returned {type(made).__name__}; it must be (x, y), (x, y, table) or RawData")
    return _checked(raw, where)


def _checked(raw: RawData, where: str) -> RawData:
    x, y, table = _numbers(np.asarray(raw.x), where), np.asarray(raw.y), raw.table
    if not isinstance(table, pd.DataFrame):
        raise ValueError(f"{where}: the table is a {type(table).__name__}; it must be a pandas DataFrame")
    if table.empty and not len(table.columns):
        table = pd.DataFrame(index=range(len(x)))
    if not len(x) == len(y) == len(table):
        raise ValueError(f"{where}: x has {len(x)} rows, y {len(y)}, table {len(table)}; they must be as many")
    if not len(x) or 0 in x.shape:
        raise ValueError(f"{where}: x is {x.shape}; there is nothing in it")
    if x.ndim not in (2, 4):
        raise ValueError(f"{where}: x is {x.shape}; it must be (n, features) or (n, channels, height, width)")
    if y.ndim != 1 or y.dtype.kind not in "iu" or y.min() < 0 or y.max() >= len(raw.classes):
        raise ValueError(
            f"{where}: y must be (n,) integers from 0 to {len(raw.classes) - 1}, it is {y.dtype} {y.shape}"
        )
    columns = raw.columns
    if x.ndim == 2 and not columns:
        columns = tuple(Column(name=f"x{index}", kind="numeric") for index in range(x.shape[1]))
        features = pd.DataFrame(x, columns=[column.name for column in columns], index=table.index)
        clash = [str(name) for name in table if name in features]
        if clash:
            raise ValueError(f"{where}: the table has a column '{clash[0]}', the name of a column of x; rename it")
        table = pd.concat([table, features], axis="columns")
    for name in filter(None, (*raw.slices, raw.group, raw.given_split)):
        require(name, table.columns, f"{where}: column")
    if raw.given_split:
        _check_split(table[raw.given_split], where)
    return replace(raw, x=x, y=y.astype(np.int64), table=table.reset_index(drop=True), columns=columns)


def _numbers(x: npt.NDArray[Any], where: str) -> npt.NDArray[Any]:
    if x.dtype == bool:
        return x.astype(np.uint8)
    if x.dtype.kind not in "iuf":
        raise ValueError(f"{where}: x holds {x.dtype}; it must hold numbers")
    if x.dtype.kind == "f" and x.dtype.itemsize > 4:
        with np.errstate(over="ignore"):  # too large for float32 becomes infinite, which validate refuses
            return x.astype(np.float32)
    return x


def _check_split(values: pd.Series[Any], where: str) -> None:
    wrong = values[~values.isin(SPLITS)]
    if len(wrong):
        raise ValueError(
            f"{where}: split column '{values.name}' is {wrong.iloc[0]!r} in row {wrong.index[0]}; "
            f"it must be one of {', '.join(SPLITS)}"
        )
    missing = [name for name in ("train", "test") if not (values == name).any()]
    if missing:
        raise ValueError(
            f"{where}: split column '{values.name}' has no row '{missing[0]}'; without it, leave split out"
        )


def encode_labels(
    values: object, where: str, classes: Sequence[str] | None = None
) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    """(n,) indices, and the names they point to.

    classes: the names in order; `values` then holds these names, or integers from 0. Without it the classes are the
    values that occur, sorted, as numbers if all of them are.

    Raises:
        ValueError: a value is missing, is no class, or is a number with a fraction (a regression target).
    """
    labels = pd.Series(np.asarray(values)) if not isinstance(values, pd.Series) else values.reset_index(drop=True)
    missing = labels.index[labels.isna()]
    if len(missing):
        raise ValueError(
            f"{where}: the label is missing in {len(missing)} of {len(labels)} rows, e.g. row {examples(missing)}"
        )
    if pd.api.types.is_float_dtype(labels) and (labels % 1 == 0).all():
        labels = labels.astype(np.int64)
    names = labels.astype(str)
    distinct = pd.Series(names.unique())
    numbers = pd.to_numeric(distinct, errors="coerce")
    numeric = bool(numbers.notna().all())
    if classes is None:
        if numeric and (numbers % 1 != 0).any():
            raise ValueError(
                f"{where}: labels such as {distinct[numbers % 1 != 0].iloc[0]} are no classes; give integers or names"
            )
        order = sorted(range(len(distinct)), key=lambda i: (float(numbers[i]) if numeric else 0.0, distinct[i]))
        found = tuple(str(distinct[i]) for i in order)
    else:
        found = tuple(str(name) for name in classes)
        if len(set(found)) < len(found):
            raise ValueError(f"{where}: classes names one class twice: {', '.join(found)}")
        if pd.api.types.is_integer_dtype(labels):
            names = labels.map(dict(enumerate(found)))
            if names.isna().any():
                wrong = labels[names.isna()].iloc[0]
                raise ValueError(
                    f"{where}: label {wrong} has no name; classes names {len(found)}, 0 to {len(found) - 1}"
                )
    index = names.map({name: position for position, name in enumerate(found)})
    if index.isna().any():
        raise ValueError(f"{where}: label {names[index.isna()].iloc[0]!r} is none of the classes {', '.join(found)}")
    return np.asarray(index, dtype=np.int64), found


def require(name: str, known: Iterable[object], what: str) -> None:
    """Raise ValueError, with the closest name that exists, unless `name` is among `known`."""
    names = [str(item) for item in known]
    if name not in names:
        close = get_close_matches(name, names, n=1, cutoff=0.5)
        hint = (
            f"did you mean '{close[0]}'?" if close else f"there are {', '.join(names[:8])}{' ...' * (len(names) > 8)}"
        )
        raise ValueError(f"{what} '{name}' does not exist; {hint}")


def examples(values: Iterable[object]) -> str:
    """The first few, for a message."""
    listed = list(values)
    return ", ".join(str(value) for value in listed[:SHOWN]) + (", ..." if len(listed) > SHOWN else "")


def located(root: Path, path: str | Path) -> Path:
    """`path`, read from the project's folder.

    Raises:
        FileNotFoundError: there is nothing.
    """
    found = Path(root) / path
    if not found.exists():
        raise FileNotFoundError(f"{found}: no such file or folder (paths start in the folder of params.yaml)")
    return found
