"""What a file in integers loses, on validation samples, and whether that is allowed."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import onnx
from scipy.special import log_softmax

from tasks.data.batches import Samples, classes_of
from tasks.export.slim import slim
from tasks.measure.budget import Limits, Lost, Rights, lost
from tasks.measure.integers import integer_op_share, operations
from tasks.measure.runtime import open_session, run
from tasks.quantize.narrow import store_narrow

Logits = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Judgement(Lost):
    """Drops as in Lost, against what the judge compares with.

    harm: mean Kullback-Leibler divergence of the answers from the float file's, in nats.
    inside: whether no more is lost than is allowed.
    """

    accuracy: float
    harm: float
    size_bytes: int
    integer_op_share: float
    inside: bool


@dataclass(frozen=True)
class Remaining:
    """The limits of the drops against the teacher, which gets `right` of the samples right, (n,)."""

    limits: Limits
    right: Rights


class Judge:
    """Knows what the float file answers to the samples, and what a file made from it may lose.

    allowed: of accuracy, against the float file; or the budget, against the teacher. What the float file itself has
    lost beyond the budget, no file in integers can give back: it must lose no more than that.
    """

    def __init__(self, model: onnx.ModelProto, samples: Samples, allowed: float | Remaining) -> None:
        self.samples, self.allowed = samples, allowed
        self.expected = logits(model, samples)
        self.targets = classes_of(samples.targets(slice(None))).numpy()
        right = self.expected.argmax(1) == self.targets
        self.reference = allowed.right if isinstance(allowed, Remaining) else right
        self.itself = lost(self.reference, right, self.targets)

    def __call__(self, model: onnx.ModelProto) -> Judgement:
        """Of the file as it would be shipped."""
        with TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            onnx.save(shipped(model), path)
            answers, share, size = run(open_session(path), self.samples), operations(path), path.stat().st_size
        right = answers.argmax(1) == self.targets
        found = lost(self.reference, right, self.targets)
        return Judgement(
            **asdict(found),
            accuracy=float(right.mean()),
            harm=divergence(self.expected, answers),
            size_bytes=size,
            integer_op_share=integer_op_share(share),
            inside=self._allows(found),
        )

    @property
    def used_up(self) -> bool:
        """Whether the float file itself is outside the budget."""
        return isinstance(self.allowed, Remaining) and not self.itself.within(self.allowed.limits)

    def _allows(self, found: Lost) -> bool:
        if not isinstance(self.allowed, Remaining):
            return found.accuracy_drop <= self.allowed
        limits = self.allowed.limits
        recall = limits.class_recall_drop
        return found.within(
            Limits(
                max(limits.accuracy_drop, self.itself.accuracy_drop_upper95),
                None if recall is None else max(recall, self.itself.class_recall_drop),
            )
        )


def shipped(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy as it goes to disk: weights that fit four bits stored so, names short."""
    made = onnx.ModelProto()
    made.CopyFrom(store_narrow(model))
    return slim(made)


def logits(model: onnx.ModelProto, samples: Samples) -> Logits:
    """(len(samples), classes), by ONNX Runtime."""
    return run(open_session(model.SerializeToString()), samples)


def divergence(expected: Logits, found: Logits) -> float:
    """Mean over the samples of KL(expected || found), both softened by nothing."""
    wanted, given = (log_softmax(answers.astype(np.float64), 1) for answers in (expected, found))
    return float((np.exp(wanted) * (wanted - given)).sum(1).mean())
