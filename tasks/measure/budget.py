"""What a model has lost against another on the same samples, and whether the budget allows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from tasks.measure.paired import paired_drop

Rights = npt.NDArray[np.bool_]
ROUNDING: Final = 1e-9  # 49/50 - 48/50 is 0.02 and a rounding error


@dataclass(frozen=True)
class Limits:
    """What the budget allows of the two drops, in [0, 1]; None leaves the recalls alone."""

    accuracy_drop: float
    class_recall_drop: float | None


@dataclass(frozen=True)
class Lost:
    """accuracy_drop: paired, with its upper one-sided 95 % limit. class_recall_drop: of the class that lost most."""

    accuracy_drop: float
    accuracy_drop_upper95: float
    class_recall_drop: float

    def within(self, limits: Limits) -> bool:
        """Whether both are, the first by its upper limit, as the gate asks on the test split."""
        allowed = np.inf if limits.class_recall_drop is None else limits.class_recall_drop
        return self.accuracy_drop_upper95 <= limits.accuracy_drop and self.class_recall_drop <= allowed + ROUNDING


def lost(reference_right: Rights, right: Rights, classes: npt.NDArray[np.int64]) -> Lost:
    """Compare sample by sample, (n,) each; `classes` are the true ones."""
    drop = paired_drop(reference_right, right)
    less = reference_right.astype(np.int64) - right
    recalls = [float(less[classes == own].mean()) for own in np.unique(classes)]
    return Lost(drop.drop, drop.upper95, max(recalls))
