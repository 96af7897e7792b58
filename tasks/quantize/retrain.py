"""Quantization-aware training of an INT8 file, and the proof that what comes out is what was trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import onnx
from torch import Tensor, nn

from tasks.data.splits import Splits
from tasks.measure.accuracy import logits
from tasks.params import Retraining
from tasks.quantize import judge
from tasks.quantize.qdq import constants
from tasks.quantize.trainable import PAIR, Trainable
from tasks.training.loop import fit_
from tasks.training.objective import Objective
from tasks.training.scratch import Scratch
from tasks.training.state import Epoch, Lesson
from tasks.training.teachers import ask

AGREEMENT: Final = 0.99  # of the labels: the runtime adds up in another order, which can tip a sum half way
TOLERATED_STEPS: Final = 2.0  # of the logits, for 99 % of them


@dataclass
class Coach:
    """Trains files towards a float model, and keeps what there is to show of the last one.

    guide: loads the model that `Retraining.towards` names, only when something is trained.
    """

    guide: Callable[[str], nn.Module]
    data: Splits
    seed: int
    scratch: Scratch | None
    history: list[Epoch] = field(default_factory=list)
    learned: dict[str, Tensor] = field(default_factory=dict)

    def train(
        self, model: onnx.ModelProto, params: Retraining, source: onnx.ModelProto
    ) -> tuple[onnx.ModelProto, dict[str, Any]]:
        """The file with trained weights, biases and steps, and how it compares with what was trained.

        source: the float file that it was made from; weights that are zero there stay zero.

        Raises:
            ValueError: there are no samples, the graph cannot be trained, or its file answers otherwise.
        """
        samples = self.data.coreset
        if not len(samples):
            raise ValueError("quantize.training has no samples: the coreset is empty; a larger one would do")
        trainable = Trainable(model)
        objective = Objective(params.losses, params.target_weight)
        teachers = [self.guide(params.towards)]
        answers = ask(teachers, samples, params.answers, objective, params.train, seed=self.seed, scratch=self.scratch)
        self.history = fit_(
            trainable,
            samples,
            self.data.validation,
            params.train,
            seed=self.seed,
            series="quantized",
            lesson=Lesson(objective, answers),
            keep=trainable.keep(source),
            scratch=self.scratch,
        )
        self.learned = trainable.named_tensors()
        written = trainable.written()
        return written, {"epochs": len(self.history), **self._parity(trainable, written)}

    def _parity(self, trainable: Trainable, written: onnx.ModelProto) -> dict[str, float]:
        """Of the file with the module, on all validation samples."""
        trained = logits(trainable, self.data.validation).numpy()
        answers = judge.logits(judge.shipped(written), self.data.validation)
        agreement = float((trained.argmax(1) == answers.argmax(1)).mean())
        step = _last_step(written)
        steps = np.abs(trained - answers) / step
        usual = float(np.quantile(steps, 0.99))
        if agreement < AGREEMENT or usual > TOLERATED_STEPS:
            raise ValueError(
                f"quantize.training: the file gives the trained network's label to {100 * agreement:.2f} % of the "
                f"validation samples, and one in a hundred of its logits differs by more than {usual:.1f} steps; at "
                f"least {100 * AGREEMENT:.0f} % and at most {TOLERATED_STEPS:.0f} are needed"
                " (portable: true keeps this processor from saturating)"
            )
        return {"label_agreement": agreement, "logit_step": step, "max_difference_steps": float(steps.max())}


def _last_step(written: onnx.ModelProto) -> float:
    """Of the logits; of the activations' largest step where they are in float."""
    held, graph = constants(written.graph), written.graph
    levels = {node.output[0] for node in graph.node if node.op_type == PAIR[0]}
    steps = {node.output[0]: float(held[node.input[1]]) for node in graph.node if levels.intersection(node.input[:1])}
    return steps.get(graph.output[0].name, max(steps.values()))
