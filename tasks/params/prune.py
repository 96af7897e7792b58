"""prune: patterns, schedules, targets and recovery."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, field_validator, model_validator

from tasks.params.criterion import L1, L2, ChannelCriterion, HeadCriterion, WeightCriterion
from tasks.params.section import Count, NonNegative, Section, Share
from tasks.params.training import Answers, Clean, Kd, Losses, Train, refuse_unkept

PlainScope = Literal["sensitivity", "uniform", "global", "isomorphic"]
Scope = Literal["auto", PlainScope]


def _listed(given: object) -> object:
    if isinstance(given, str):
        raise ValueError(f"names come as a list; [{given}] would do")
    return given


Names = Annotated[tuple[str, ...], Field(strict=False), BeforeValidator(_listed)]


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


def _share_of(measure: str) -> Callable[[object], object]:
    """Refuses a bare number as target, which does not say of what it is a share."""

    def check(target: object) -> object:
        if isinstance(target, int | float):
            raise ValueError(f"it must say of what; {{{measure}: {target}}} would do, or budget")
        return target

    return check


Target = Annotated[
    Annotated[CostTarget, Tag("by_share")] | Annotated[Literal["budget"], Tag("by_budget")],
    Discriminator(_kind),
    BeforeValidator(_share_of("macs")),
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
    """Layers that stay whole: the first one, and the last one; of channels, which the output keeps, that before it.

    By pattern head these are attentions, by pattern layer the blocks that could go.
    """

    first: bool = False
    last: bool = False


class SparsityTarget(Section):
    """Share of the weights that become zero, of those that `ignore` and `protect` leave."""

    sparsity: Share


WeightTarget = Annotated[
    Annotated[SparsityTarget, Tag("by_share")] | Annotated[Literal["budget"], Tag("by_budget")],
    Discriminator(_kind),
    BeforeValidator(_share_of("sparsity")),
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


# options of other patterns that are asked for here, and why a pattern has none: they would say nothing
MEANINGLESS: Final = {
    ("head", "round_to"): "heads go one by one",
    ("layer", "scope"): "a block goes as a whole, the one first without which the loss is least",
    ("layer", "round_to"): "a block goes as a whole",
    ("layer", "criterion"): "the loss without a block decides which one goes",
    ("unstructured", "round_to"): "weights go one by one",
    ("n_m", "scope"): "of every m weights that follow each other n stay, in every layer alike",
    ("n_m", "round_to"): "of every m weights that follow each other n stay",
}


class Pruning(Section):
    """What every pattern has.

    ignore: names of layers, or of what they lie in, that stay whole. recalibrate: BatchNorm statistics, after each cut.
    calibration_samples: of the training, for whatever looks at data.
    """

    ignore: Names = ()
    protect: Protect = Protect()
    recalibrate: bool = True
    calibration_samples: Count = 256
    recovery: Recovery = Recovery()

    @model_validator(mode="before")
    @classmethod
    def _says_something(cls, given: object) -> object:
        if isinstance(given, Mapping):
            for option, value in given.items():
                if reason := MEANINGLESS.get((str(given.get("pattern")), option)):
                    raise ValueError(f"{option} is {value!r}, but {reason}; leave {option} out")
        return given


class ChannelPruning(Pruning):
    pattern: Literal["channel"]
    target: Target
    ladder: Ladder = Ladder()
    criterion: ChannelCriterion = L2(method="l2")
    scope: Scope = "sensitivity"
    schedule: Schedule = Linear(method="linear")
    sensitivity: Sensitivity = Sensitivity()
    round_to: Count = 4
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
    """Of every `m` weights that follow each other along the inputs, `n` stay, in every layer alike.

    target: budget takes them one by one, from m - 1 down to n, while the budget lasts.
    """

    pattern: Literal["n_m"]
    target: Literal["budget"] | None = None
    n: Count = 2
    m: Count = 4
    criterion: WeightCriterion = L1(method="l1")
    schedule: Schedule = OneShot(method="one_shot")
    sensitivity: Subset = Subset()

    @field_validator("target", mode="before")
    @classmethod
    def _n_and_m_say(cls, given: object) -> object:
        if given is not None and not isinstance(given, str):
            raise ValueError("n and m say how much stays; budget would do, or leave target out")
        return given

    @model_validator(mode="after")
    def _some_go(self) -> NmPruning:
        if self.n >= self.m:
            raise ValueError(f"n is {self.n} and m is {self.m}; n of every m weights stay, so n must be below m")
        return self


Prune = Annotated[
    ChannelPruning | HeadPruning | LayerPruning | UnstructuredPruning | NmPruning, Field(discriminator="pattern")
]
