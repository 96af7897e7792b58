"""Whether new data look like those that the model has learned from: column by column, and in what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
from scipy.stats import chi2_contingency, ks_2samp

from tasks.data.dataset import MISSING
from tasks.measure.paired import holm

LEVEL: Final = 0.05
FLOOR: Final = 0.1  # of the distance: in many rows the smallest difference is no chance, and is no drift either

Kind = Literal["numeric", "categorical"]
Columns = Mapping[str, "pd.Series[Any]"]


@dataclass(frozen=True)
class Shift:
    """How far one column's distribution has moved.

    distance: in [0, 1]; of numbers the largest difference of the cumulative distributions (Kolmogorov and Smirnov),
    of categories half the sum of the differences of their shares (total variation).
    p_value: that both are drawn from the same, adjusted by Holm for all columns. drifted: below 0.05 and 0.1 or more.
    before, after: the mean and the share missing, or the category whose share has changed most, with its shares.
    """

    column: str
    kind: Kind
    distance: float
    p_value: float
    drifted: bool
    before: str
    after: str


def shifts(reference: Columns, new: Columns, kinds: Mapping[str, Kind]) -> list[Shift]:
    """One for each of the columns that `kinds` names, in its order; columns may differ in length.

    Raises:
        ValueError: a column has no rows.
    """
    for name, columns in {"reference": reference, "new": new}.items():
        if any(columns[column].empty for column in kinds):
            raise ValueError(f"drift: the {name} data have no rows")
    found = [_COMPARE[kind](reference[column], new[column]) for column, kind in kinds.items()]
    adjusted = holm([p_value for _, p_value, _, _ in found])
    return [
        Shift(column, kind, distance, p_value, p_value < LEVEL and distance >= FLOOR, before, after)
        for (column, kind), (distance, _, before, after), p_value in zip(kinds.items(), found, adjusted, strict=True)
    ]


def _numeric(reference: pd.Series[Any], new: pd.Series[Any]) -> tuple[float, float, str, str]:
    before, after = (values.to_numpy(dtype=np.float64, na_value=np.nan) for values in (reference, new))
    # as a number below all others, so that a change of the missing share counts as well
    result = ks_2samp(*(np.nan_to_num(values, nan=-np.inf, neginf=-np.inf) for values in (before, after)))
    return float(result.statistic), float(result.pvalue), _mean(before), _mean(after)


def _mean(values: np.ndarray[Any, np.dtype[np.float64]]) -> str:
    finite = values[np.isfinite(values)]
    lost = 1 - len(finite) / len(values)
    return (f"mean {finite.mean():.4g}" + f", {lost:.1%} missing" * (lost > 0)) if len(finite) else "no finite number"


def _categorical(reference: pd.Series[Any], new: pd.Series[Any]) -> tuple[float, float, str, str]:
    texts = [values.astype(str).where(values.notna(), MISSING) for values in (reference, new)]
    counts = pd.concat([text.value_counts() for text in texts], axis=1).fillna(0).sort_index().to_numpy()
    names = sorted(set(texts[0]) | set(texts[1]))
    shares = counts / counts.sum(axis=0)
    changes = np.abs(shares[:, 0] - shares[:, 1])
    p_value = float(chi2_contingency(counts.T, correction=False).pvalue) if len(counts) > 1 else 1.0
    most = int(changes.argmax())
    before, after = (f"{names[most]} {share:.1%}" for share in shares[most])
    return float(changes.sum() / 2), p_value, before, after


_COMPARE: Final = {"numeric": _numeric, "categorical": _categorical}
