"""Stage 3: train, validation and test; stratified, with rows that belong together on one side."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from tasks.data.dataset import load_dataset
from tasks.data.raw import examples, require
from tasks.files import Files
from tasks.params import Split

log = logging.getLogger(__name__)

PARTS: Final = ("train", "validation", "test")
TRAIN, VALIDATION, TEST = range(3)

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


def split(params: Split, seed: int, files: Files) -> dict[str, float]:
    """Write the row numbers of each part, int64 and sorted, as arrays train, validation and test.

    The rows of a group, and exact duplicates, go to one part. Every class keeps its share of each part as far as that
    allows. A test split that the source gives stands; validation is then cut from its train rows, as a share of them,
    unless it is given too. A given train row whose content occurs in given test is dropped, being a question whose
    answer is known (likewise train from validation, validation from test); where more than max_overlap of the test rows
    are such questions, the split is refused. Otherwise every row is in one part.

    Returns:
        Counts: train, validation, test, dropped.

    Raises:
        ValueError: a class cannot be in every part; a group lies on two sides of a given split, is missing in a row,
            or its column does not exist; too much of a given test split is in its training rows.
    """
    data = load_dataset(files.reads["data"])
    table, group = data.table(), params.group or data.card.group
    groups = _groups(table, group) if group else None
    part = np.full(len(table), -1)
    dropped = np.zeros(len(table), bool)
    shares = [1 - params.validation - params.test, params.validation, params.test]
    if data.card.given_split:
        part = pd.Categorical(table[data.card.given_split], categories=PARTS).codes.astype(np.int64)
        if groups is not None:
            _refuse_straddling(groups, part)
        dropped = part < pd.Series(part).groupby(table["sha1"]).transform("max").to_numpy()
        _refuse_overlap(table, part, params.max_overlap)
        if dropped.any():
            log.warning(
                "split: %d rows dropped whose content a later part holds too, id %s",
                dropped.sum(),
                examples(table["id"][dropped]),
            )
        shares = [1 - params.validation, params.validation]
    free = np.flatnonzero(part == -1)
    if data.card.given_split and not (part == VALIDATION).any():
        free = np.flatnonzero((part == TRAIN) & ~dropped)
    keys = [table["sha1"], *([] if groups is None else [groups])]
    if len(free):
        units = tied([key.iloc[free] for key in keys])
        part[free] = deal(units, data.y[free], shares, np.random.default_rng(seed))
    part[dropped] = -1
    _refuse_absent(part, data.y, tied(keys), data.card.classes)
    rows = {name: np.flatnonzero(part == code).astype(np.int64) for code, name in enumerate(PARTS)}
    with files.writes["split"].open("wb") as file:
        np.savez(file, **rows)  # type: ignore[arg-type]  # numpy's stub takes the names for allow_pickle
    return {**{name: len(found) for name, found in rows.items()}, "dropped": int(dropped.sum())}


def tied(keys: Sequence[pd.Series[Any]]) -> Ints:
    """(n,) unit of each row, from 0: rows that share a value of any key are one unit, directly or by way of others."""
    codes = [pd.factorize(key)[0] for key in keys]
    unit = np.arange(len(codes[0]))
    while True:
        before = unit
        for code in codes:
            least = np.full(len(unit), len(unit))
            np.minimum.at(least, code, unit)
            unit = least[code]
        if (unit == before).all():
            return np.unique(unit, return_inverse=True)[1].astype(np.int64)


def deal(units: Ints, y: Ints, shares: Sequence[float], rng: np.random.Generator) -> Ints:
    """(n,) part of each row, from 0: whole units only, each class as near to `shares` as they allow.

    Units of several rows come first, the large before the small, each where it brings the class counts nearest to
    what is wanted (squared distance over wanted). When a class has only as many units left as parts that still lack
    it, they go there. Rows that stand alone then fill what is missing, drawn at random.
    """
    totals = np.bincount(y)
    wanted = np.stack([apportion(total, shares) for total in totals])
    have = np.zeros_like(wanted)
    part = np.full(len(y), TRAIN)
    sizes = np.bincount(units)
    left = np.array([len(np.unique(units[y == label])) for label in range(len(totals))])
    members = np.split(np.argsort(units, kind="stable"), np.cumsum(sizes)[:-1])
    order = rng.permutation(len(sizes))
    for unit in order[np.argsort(-sizes[order], kind="stable")]:
        if sizes[unit] == 1:
            break
        amounts = np.bincount(y[members[unit]], minlength=len(totals))
        chosen = _best_part(amounts, wanted, have, left)
        part[members[unit]] = chosen
        have[:, chosen] += amounts
        left[amounts > 0] -= 1
    alone = sizes[units] == 1
    for label in range(len(totals)):
        rows = rng.permutation(np.flatnonzero(alone & (y == label)))
        numbers = apportion(len(rows), np.maximum(wanted[label] - have[label], 0), have[label] == 0)
        part[rows] = np.repeat(np.arange(len(shares)), numbers)
    return part.astype(np.int64)


def _best_part(amounts: Ints, wanted: Ints, have: Ints, left: Ints) -> int:
    """amounts: (classes,) of one unit; wanted, have: (classes, parts) rows; left: (classes,) units, this one too."""
    present = amounts > 0
    added = amounts[present, None]
    change = added * (added - 2 * (wanted - have)[present]) / np.maximum(wanted[present], 1)
    lacking = have[present] == 0
    pressed = lacking[left[present] <= lacking.sum(axis=1)]
    allowed = pressed.all(axis=0) if pressed.all(axis=0).any() else np.ones(wanted.shape[1], bool)
    return int(np.argmin(np.where(allowed, change.sum(axis=0), np.inf)))


def apportion(total: int, weights: Sequence[float] | Ints, lacking: Mask | None = None) -> Ints:
    """Whole numbers in proportion to `weights` that sum to `total`, by largest remainder.

    A part that is `lacking` (by default all are) gets at least one, taken from the largest, if total goes round.
    """
    quota = np.asarray(weights, float) * total / max(float(np.sum(weights)), 1e-12)
    numbers = np.floor(quota).astype(np.int64)
    numbers[np.argsort(numbers - quota, kind="stable")[: total - int(numbers.sum())]] += 1
    needy = np.ones(len(numbers), bool) if lacking is None else lacking
    if total >= needy.sum():
        for part in np.flatnonzero(needy & (numbers == 0)):
            numbers[np.argmax(2 * numbers - needy)] -= 1  # among equals, from one that is not needy
            numbers[part] += 1
    return numbers


def _groups(table: pd.DataFrame, group: str) -> pd.Series[Any]:
    require(group, table.columns, "split.group: column")
    missing = table["id"][table[group].isna()]
    if len(missing):
        raise ValueError(
            f"split.group: '{group}' is missing in {len(missing)} of {len(table)} rows, id {examples(missing)}; fill it"
        )
    return table[group]


def _refuse_overlap(table: pd.DataFrame, part: Ints, most: float) -> None:
    """A few samples that occur twice are nature; many are a test split that training has seen."""
    test = table[part == TEST]
    seen = test["sha1"].isin(table["sha1"][part != TEST])
    if seen.mean() > most:
        raise ValueError(
            f"split: {int(seen.sum()):,} of {len(test):,} rows of the given test split ({seen.mean():.2%}) have the "
            f"same content as training or validation rows, e.g. id {examples(test['id'][seen])}; split.max_overlap is "
            f"{most}: mend the data, or raise it, and those training rows are dropped instead"
        )


def _refuse_straddling(groups: pd.Series[Any], part: npt.NDArray[Any]) -> None:
    sides = pd.Series(part).groupby(groups).nunique()
    torn = sides.index[sides > 1]
    if len(torn):
        raise ValueError(
            f"split.group: {len(torn)} of {len(sides)} groups of '{groups.name}' lie on two sides of the given split, "
            f"e.g. {examples(torn)}; mend the split, or group by another column"
        )


def _refuse_absent(part: npt.NDArray[Any], y: Ints, units: Ints, classes: Sequence[str]) -> None:
    for label, name in enumerate(classes):
        absent = [PARTS[code] for code in range(len(PARTS)) if not (part[y == label] == code).any()]
        if absent:
            raise ValueError(
                f"split: class '{name}' is not in {' or '.join(absent)}: it has {int((y == label).sum())} samples in "
                f"{len(np.unique(units[y == label]))} units that stay together (groups, duplicates); three are needed, "
                "one for each of train, validation and test"
            )
