"""Whether a file answers as what it was made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

TOLERANCE: Final = 1e-3
# two runtimes round integers differently: a label may flip where two logits are a step apart, more may not
MIN_AGREEMENT: Final = 0.99


@dataclass(frozen=True)
class Parity:
    """The largest difference of any logit, absolute and in shares of the largest; how often the label is the same."""

    max_difference: float
    max_relative_difference: float
    label_agreement: float
    samples: int


def parity(expected: npt.NDArray[np.float32], found: npt.NDArray[np.float32]) -> Parity:
    """Compare logits, (n, classes) each.

    Raises:
        ValueError: the shapes differ.
    """
    if expected.shape != found.shape:
        raise ValueError(f"it answers with {found.shape}, the model with {expected.shape}")
    both_lost = np.isnan(found) & np.isnan(expected)  # evaluate says so of a model whose training diverged
    difference = float(np.abs(np.where(both_lost, 0, found - expected)).max())
    return Parity(
        max_difference=difference,
        max_relative_difference=difference / max(1.0, float(np.nan_to_num(np.abs(expected)).max())),
        label_agreement=float((found.argmax(1) == expected.argmax(1)).mean()),
        samples=len(expected),
    )


def refuse_difference(found: Parity, what: str, *, integer: bool = False) -> None:
    """Raise ValueError where a file must not ship: `what` names it, integer says that both compute in integers."""
    if not integer and not found.max_relative_difference <= TOLERANCE:
        raise ValueError(f"{what} differs from the model by {found.max_relative_difference:.2g} of its largest logit")
    if not found.label_agreement >= MIN_AGREEMENT:
        raise ValueError(
            f"{what} gives the model's label for {found.label_agreement:.1%} of {found.samples} samples only"
        )
