"""What the teacher was worth: the student with it, the same student alone, and the gap between them closed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student_t

from tasks.measure.paired import holm, mcnemar

LEVEL: Final = 0.05

Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ClassChange:
    """Recall of one class without and with the teacher, and the p of no change, adjusted for all classes (Holm)."""

    name: str
    recall_alone: float
    recall_student: float
    p_adjusted: float


@dataclass(frozen=True)
class Comparison:
    """On the validation split. gain: of the student over the student alone, mean over the seeds.

    gain_low, gain_high, gap_closed_low, gap_closed_high: 95 % interval over the seeds; None for a single seed.
    gap_closed: gain as a share of what the student alone lacks to the teacher; None where it lacks nothing.
    p: that the first pair is equally good (McNemar).
    helped: the teacher's answers did, surely. taught, inherited: as `compare` was told.
    """

    accuracy_teacher: float
    accuracy_alone: float
    accuracy_student: float
    gain: float
    gain_low: float | None
    gain_high: float | None
    gap_closed: float | None
    gap_closed_low: float | None
    gap_closed_high: float | None
    agreement: float
    p: float
    seeds: int
    helped: bool
    taught: bool
    inherited: bool
    classes: tuple[ClassChange, ...]

    def sentence(self) -> str:
        """The answer, for the log and the report."""
        words = "distillation helped" if self.helped else "distillation did not help here"
        if not self.taught and not self.inherited:
            alone = f"the probe chose the student alone, {_percent(self.accuracy_student)}"
            return f"{words}: {alone}, against the teacher's {_percent(self.accuracy_teacher)}"
        if self.gap_closed is None and self.taught and not self.helped:
            alone = f"the student alone is as good as the teacher ({_percent(self.accuracy_alone)})"
            return f"{words}: {alone}, nothing to close"
        chosen = "" if self.taught else "the probe chose the student alone, with the weights that it inherited, "
        beside = "alone" if self.taught else "with fresh ones"
        return (
            f"{words}: {chosen}{_percent(self.accuracy_student)} against {_percent(self.accuracy_alone)} {beside}, "
            f"{self._gained()}, {self._closed()}"
        )

    def _gained(self) -> str:
        if self.gain_low is None or self.gain_high is None:
            return f"{100 * self.gain:+.2f} pp (McNemar p {self.p:.2g})"
        limits = f"{100 * self.gain_low:+.2f} to {100 * self.gain_high:+.2f}"
        return f"{100 * self.gain:+.2f} pp (95 % interval over {self.seeds} seeds {limits})"

    def _closed(self) -> str:
        gap = f"gap to the teacher's {_percent(self.accuracy_teacher)}"
        if self.gap_closed is None:
            return f"where there was no {gap} to close"
        if self.gap_closed_low is None or self.gap_closed_high is None:
            return f"{100 * self.gap_closed:.0f} % of the {gap} closed"
        limits = f"{100 * self.gap_closed_low:.0f} to {100 * self.gap_closed_high:.0f}"
        return f"{100 * self.gap_closed:.0f} % (interval {limits}) of the {gap} closed"

    def facts(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return {**asdict(self), "sentence": self.sentence()}


def compare(
    targets: Labels,
    teacher: Labels,
    alone: Sequence[Labels],
    student: Sequence[Labels],
    names: Sequence[str],
    *,
    taught: bool = True,
    inherited: bool = False,
) -> Comparison:
    """Labels predicted for the validation split, (n,) each; one of `alone` and of `student` per seed.

    taught: the student was; False where the probe chose the targets alone.
    inherited: it began with weights of what it was cut from, the student alone with fresh ones.
    """
    answers = {"teacher": [teacher], "alone": alone, "student": student}
    right = {name: [labels == targets for labels in own] for name, own in answers.items()}
    means = {name: float(np.mean(own)) for name, own in right.items()}
    gains = np.array([float(s.mean() - a.mean()) for s, a in zip(right["student"], right["alone"], strict=True)])
    low, high = interval(gains)
    gap = means["teacher"] - means["alone"]

    def share(value: float | None) -> float | None:
        return None if value is None or gap <= 0 else value / gap

    p = _mcnemar(right["alone"][0], right["student"][0])
    gain = float(gains.mean())
    return Comparison(
        accuracy_teacher=means["teacher"],
        accuracy_alone=means["alone"],
        accuracy_student=means["student"],
        gain=gain,
        gain_low=low,
        gain_high=high,
        gap_closed=share(gain),
        gap_closed_low=share(low),
        gap_closed_high=share(high),
        agreement=float((student[0] == teacher).mean()),
        p=p,
        seeds=len(gains),
        helped=taught and (low > 0 if low is not None else gain > 0 and p < LEVEL),
        taught=taught,
        inherited=inherited,
        classes=_classes(targets, right["alone"][0], right["student"][0], names),
    )


def interval(values: npt.NDArray[np.float64]) -> tuple[float, float] | tuple[None, None]:
    """95 % interval of the mean by Student's t; None where one value tells nothing of the spread."""
    if len(values) < 2:
        return None, None
    half = float(student_t.ppf(1 - LEVEL / 2, len(values) - 1) * values.std(ddof=1) / sqrt(len(values)))
    return float(values.mean()) - half, float(values.mean()) + half


def _classes(
    targets: Labels, alone: npt.NDArray[np.bool_], student: npt.NDArray[np.bool_], names: Sequence[str]
) -> tuple[ClassChange, ...]:
    of_class: Mapping[str, npt.NDArray[np.bool_]] = {
        name: targets == label for label, name in enumerate(names) if (targets == label).any()
    }
    adjusted = holm([_mcnemar(alone[own], student[own]) for own in of_class.values()])
    return tuple(
        ClassChange(name, float(alone[own].mean()), float(student[own].mean()), p)
        for (name, own), p in zip(of_class.items(), adjusted, strict=True)
    )


def _mcnemar(before: npt.NDArray[np.bool_], after: npt.NDArray[np.bool_]) -> float:
    return mcnemar(int((before & ~after).sum()), int((~before & after).sum()))


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"
