"""Classes and slices one by one: who lost, and whether that can be chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from tasks.measure.paired import holm, mcnemar_exact

MOST_VALUES: Final = 50  # of a slice column; a column of numbers is not one of slices
Right = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Group:
    """accuracy: of the file; drop: share of the samples lost against the reference, net; both 0 without samples.

    p: exact McNemar, adjusted by Holm for its family.
    """

    name: str
    samples: int
    drop: float
    p: float
    accuracy: float


def compare_groups(members: Mapping[str, Right], reference_right: Right, right: Right) -> list[Group]:
    """members: which of the n samples belong to each group; a group without samples has drop 0 and p 1."""
    lost = [int((reference_right & ~right & inside).sum()) for inside in members.values()]
    gained = [int((~reference_right & right & inside).sum()) for inside in members.values()]
    sizes = [int(inside.sum()) for inside in members.values()]
    hits = [int((right & inside).sum()) for inside in members.values()]
    adjusted = holm([mcnemar_exact(*pair) for pair in zip(lost, gained, strict=True)])
    return [
        Group(name, size, (down - up) / max(size, 1), p, hit / max(size, 1))
        for name, size, down, up, p, hit in zip(members, sizes, lost, gained, adjusted, hits, strict=True)
    ]


def class_members(targets: npt.NDArray[np.int64], classes: Sequence[str]) -> dict[str, Right]:
    """Which samples are of each class."""
    return {name: targets == index for index, name in enumerate(classes)}


def slice_members(table: pd.DataFrame, columns: Sequence[str], test: npt.NDArray[np.int64]) -> dict[str, Right]:
    """`column=value` of every value that the data has, and which of the test samples have it.

    Raises:
        ValueError: no such column, or one with more than MOST_VALUES values.
    """
    members: dict[str, Right] = {}
    for column in columns:
        if column not in table:
            raise ValueError(f"evaluate.slices: table.parquet has no '{column}'; it has {', '.join(map(str, table))}")
        values = table[column].astype("string").fillna("missing").to_numpy(dtype=str)
        known = np.unique(values)
        if len(known) > MOST_VALUES:
            raise ValueError(
                f"evaluate.slices: '{column}' has {len(known):,} values; name a column of at most {MOST_VALUES}"
            )
        members |= {f"{column}={value}": values[test] == value for value in known}
    return members
