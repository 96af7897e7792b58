"""What a file in integers loses to the float file it was made from, on validation samples."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import onnx
from scipy.special import log_softmax

from tasks.data.batches import Samples, classes_of
from tasks.export.slim import slim
from tasks.measure.integers import integer_op_share, operations
from tasks.measure.paired import paired_drop
from tasks.measure.runtime import open_session, run
from tasks.quantize.narrow import store_narrow

Logits = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Judgement:
    """accuracy_drop: paired, against the float file; its upper limit is one-sided, 95 %.

    harm: mean Kullback-Leibler divergence of the answers from the float file's, in nats.
    """

    accuracy: float
    accuracy_drop: float
    accuracy_drop_upper95: float
    harm: float
    size_bytes: int
    integer_op_share: float


class Judge:
    """Knows what the float file answers to the samples."""

    def __init__(self, model: onnx.ModelProto, samples: Samples) -> None:
        self.samples = samples
        self.expected = logits(model, samples)
        self.targets = classes_of(samples.targets(slice(None))).numpy()

    def __call__(self, model: onnx.ModelProto) -> Judgement:
        """Of the file as it would be shipped."""
        with TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            onnx.save(shipped(model), path)
            answers, share, size = run(open_session(path), self.samples), operations(path), path.stat().st_size
        right = answers.argmax(1) == self.targets
        drop = paired_drop(self.expected.argmax(1) == self.targets, right)
        return Judgement(
            accuracy=float(right.mean()),
            accuracy_drop=drop.drop,
            accuracy_drop_upper95=drop.upper95,
            harm=divergence(self.expected, answers),
            size_bytes=size,
            integer_op_share=integer_op_share(share),
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
