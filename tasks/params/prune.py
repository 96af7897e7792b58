"""prune: criteria, schedules, targets and recovery."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from tasks.params.section import Count, NonNegative, Section, Share
from tasks.params.training import Answers, Clean, Kd, Losses, Train, refuse_unkept


class Random(Section):
    method: Literal["random"]


class L1(Section):
    method: Literal["l1"]


class L2(Section):
    method: Literal["l2"]


class BnScale(Section):
    method: Literal["bn_scale"]


class Taylor(Section):
    method: Literal["taylor"]


class Fpgm(Section):
    method: Literal["fpgm"]


class Lamp(Section):
    method: Literal["lamp"]


class Wanda(Section):
    method: Literal["wanda"]


class SparseGpt(Section):
    method: Literal["sparsegpt"]


Criterion = Annotated[
    Random | L1 | L2 | BnScale | Taylor | Fpgm | Lamp | Wanda | SparseGpt, Field(discriminator="method")
]
ChannelCriterion = Annotated[Random | L1 | L2 | BnScale | Taylor | Fpgm, Field(discriminator="method")]
HeadCriterion = Annotated[Random | L1 | L2 | Taylor | Fpgm, Field(discriminator="method")]
WeightCriterion = Annotated[Random | L1 | L2 | Taylor | Lamp | Wanda | SparseGpt, Field(discriminator="method")]
Scope = Literal["auto", "sensitivity", "uniform", "global", "isomorphic"]
Names = Annotated[tuple[str, ...], Field(strict=False)]


class OneShot(Section):
    method: Literal["one_shot"]


class Linear(Section):
    method: Literal["linear"]
    steps: Count = 3


class Cubic(Section):
    method: Literal["cubic"]
    steps: Count = 5


Schedule = Annotated[OneShot | Linear | Cubic, Field(discriminator="method")]


class Sensitivity(Section):
    """The scan before pruning: each layer alone at each pruning ratio, on `samples` of the validation split."""

    ratios: Annotated[tuple[Share, ...], Field(strict=False, min_length=1)] = (0.25, 0.5, 0.75)
    samples: Count = 1000


class Subset(Section):
    """How many samples of the validation split the scan looks at."""

    samples: Count = 1000


class CostTarget(Section):
    """Share of the dense model's multiply-accumulates, parameters, bytes or measured latency that is left.

    bytes, latency: of the ONNX file; latency at batch 1, beside the dense model's.
    """

    macs: Share | None = None
    parameters: Share | None = None
    bytes: Share | None = None
    latency: Share | None = None

    @model_validator(mode="after")
    def _one_measure(self) -> CostTarget:
        if len(self._given()) != 1:
            raise ValueError("give exactly one of macs, parameters, bytes and latency")
        return self

    @property
    def measure(self) -> tuple[str, float]:
        """Its name, and the share."""
        return self._given()[0]

    def _given(self) -> list[tuple[str, float]]:
        return [(name, share) for name, share in self if share is not None]


def _kind(target: object) -> str:
    return "by_budget" if isinstance(target, str) else "by_share"


Target = Annotated[
    Annotated[CostTarget, Tag("by_share")] | Annotated[Literal["budget"], Tag("by_budget")], Discriminator(_kind)
]


class Ladder(Section):
    """For `target: budget`: shares of the dense model, tried in turn while the budget lasts.

    Of its multiply-accumulates; by pattern unstructured, of its weights.
    """

    shares: Annotated[tuple[Share, ...], Field(strict=False, min_length=1)] = (0.8, 0.65, 0.5, 0.4, 0.3, 0.2, 0.1)

    @model_validator(mode="after")
    def _falls(self) -> Ladder:
        if any(after >= before for before, after in pairwise(self.shares)):
            raise ValueError(f"shares are {list(self.shares)}; each must be below the one before")
        return self


class Protect(Section):
    """Layers that stay whole: the first one, and the last one; of channels, which the output keeps, that before it."""

    first: bool = False
    last: bool = False


class SparsityTarget(Section):
    """Share of the weights that become zero."""

    sparsity: Share


WeightTarget = Annotated[
    Annotated[SparsityTarget, Tag("by_share")] | Annotated[Literal["budget"], Tag("by_budget")], Discriminator(_kind)
]


class Recovery(Section):
    """Training after each pruning step, towards the teacher."""

    losses: Losses = (Kd(method="kd"),)
    target_weight: NonNegative = 0.1
    answers: Answers = Clean(mode="clean")
    step: Train = Train(epochs=1, lr=0.002)
    final: Train = Train(epochs=5, lr=0.005)

    @model_validator(mode="after")
    def _answers_suffice(self) -> Recovery:
        if any(loss.method == "mutual" for loss in self.losses):
            raise ValueError("losses name mutual, which learns with a peer; recovery needs the teacher")
        refuse_unkept(self.losses, self.answers, self.step.augment, self.final.augment)
        return self


class Pruning(Section):
    """What every pattern has.

    ignore: names of layers, or of what they lie in, that stay whole. recalibrate: BatchNorm statistics, after each cut.
    calibration_samples: of the training, for whatever looks at data.
    """

    ignore: Names = ()
    recalibrate: bool = True
    calibration_samples: Count = 256
    recovery: Recovery = Recovery()


class ChannelPruning(Pruning):
    pattern: Literal["channel"]
    target: Target
    ladder: Ladder = Ladder()
    criterion: ChannelCriterion = L2(method="l2")
    scope: Scope = "sensitivity"
    schedule: Schedule = Linear(method="linear")
    sensitivity: Sensitivity = Sensitivity()
    round_to: Count = 4
    protect: Protect = Protect()
    compensate: bool = False


class HeadPruning(Pruning):
    """Heads of nn.MultiheadAttention, in a layer of a transformer or alone."""

    pattern: Literal["head"]
    target: Target
    ladder: Ladder = Ladder()
    criterion: HeadCriterion = L2(method="l2")
    scope: Scope = "sensitivity"
    schedule: Schedule = Linear(method="linear")
    sensitivity: Sensitivity = Sensitivity()


class LayerPruning(Pruning):
    """Whole blocks that keep the shape of their input, the one first without which the loss is least.

    Of a target of latency the one first whose rise of the loss is least for what it saves.
    blocks: their names; none listed means the innermost that add to their input.
    """

    pattern: Literal["layer"]
    target: Target
    ladder: Ladder = Ladder()
    blocks: Names = ()
    schedule: Schedule = Linear(method="linear")
    sensitivity: Subset = Subset()


class UnstructuredPruning(Pruning):
    """Single weights.

    scope: the lowest of the whole model go, or of each layer the same share; with wanda of each of its rows.
    """

    pattern: Literal["unstructured"]
    target: WeightTarget
    ladder: Ladder = Ladder()
    criterion: WeightCriterion = L1(method="l1")
    # None: global, but with wanda and sparsegpt, which compare within a layer alone, uniform
    scope: Literal["global", "uniform"] | None = None
    protect: Protect = Protect()
    schedule: Schedule = Cubic(method="cubic")
    sensitivity: Sensitivity = Sensitivity()

    @model_validator(mode="after")
    def _scores_compare(self) -> UnstructuredPruning:
        if self.scope == "global" and self.criterion.method in ("wanda", "sparsegpt"):
            raise ValueError(
                f"scope is global, but {self.criterion.method} compares weights of one layer alone; "
                "uniform would do, or another criterion"
            )
        return self


class NmPruning(Pruning):
    """Of every `m` weights that follow each other along the inputs, `n` stay.

    target: budget takes them one by one, from m - 1 down to n, while the budget lasts.
    """

    pattern: Literal["n_m"]
    target: Literal["budget"] | None = None
    n: Count = 2
    m: Count = 4
    criterion: WeightCriterion = L1(method="l1")
    schedule: Schedule = OneShot(method="one_shot")
    sensitivity: Subset = Subset()

    @model_validator(mode="after")
    def _some_go(self) -> NmPruning:
        if self.n >= self.m:
            raise ValueError(f"n is {self.n} and m is {self.m}; n of every m weights stay, so n must be below m")
        return self


Prune = Annotated[
    ChannelPruning | HeadPruning | LayerPruning | UnstructuredPruning | NmPruning, Field(discriminator="pattern")
]
