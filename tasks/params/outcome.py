"""evaluate, register, budget, tracking: how a model is judged and kept."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from tasks.params.deployment import PROFILES, Exports, Profile, ProfileName
from tasks.params.section import Count, Factory, Fraction, NonNegative, Positive, Section

Corruption = Literal[
    "noise", "blur", "shift", "rotate", "brightness", "contrast", "inverse", "missing", "jitter", "category_swap"
]
Severity = Annotated[int, Field(ge=1, le=5)]


class Corruptions(Section):
    """`samples` of the test split under each method and severity. methods: None means all that the data allow."""

    methods: Annotated[list[Corruption], Field(min_length=1)] | None = None
    severities: Annotated[list[Severity], Field(min_length=1)] = [1, 3, 5]
    samples: Count = 1000


class Evaluate(Section):
    """Timing: `rounds` interleaved passes, `runs` calls each; `throughput_runs` of the batch where a choice is made.

    slices: columns of table.parquet. shifted: a source of samples from elsewhere, judged as the test split is.
    train_samples: of the training split, answered for the gap to the test split. exemplars: most of each part.
    """

    latency_rounds: Count = 20
    latency_runs: Count = 20
    throughput_batch_size: Count = 256
    throughput_runs: Count = 10
    slices: list[str] = []
    corruptions: Corruptions | None = Corruptions()
    shifted: Factory | None = None
    train_samples: Count = 2000
    exemplars: Count = 50
    exports: Exports = Exports()
    profiles: dict[ProfileName, Profile] = PROFILES


class Register(Section):
    """intended_use, limits: for the model card. approval: the flow waits for a person and then promotes."""

    model_name: Annotated[str, StringConstraints(pattern=r"^[\w.-]+$")] = "downsize"
    intended_use: str = ""
    limits: str = ""
    approval: bool = False


class Budget(Section):
    """What the user allows, against the teacher. None leaves a figure unlimited.

    max_significant_drop: of a class or slice whose loss is no chance. min_parent_agreement: of the quantized file.
    max_corruption_drop: how much larger the drop may be under a corruption. max_shifted_drop: of evaluate.shifted.
    """

    max_accuracy_drop: NonNegative = 0.005
    max_class_recall_drop: NonNegative | None = 0.02
    max_slice_drop: NonNegative | None = 0.05
    max_significant_drop: NonNegative | None = 0.02
    min_agreement: Fraction | None = 0.97
    min_parent_agreement: Fraction | None = 0.99
    max_negative_flips: NonNegative | None = 0.015
    max_ece_increase: NonNegative | None = 0.01
    max_corruption_drop: NonNegative | None = 0.02
    max_shifted_drop: NonNegative | None = None
    max_size_bytes: Count | None = None
    max_latency_ms: Positive | None = None


class Tracking(Section):
    """MLflow. `uri` null means MLFLOW_TRACKING_URI, or SQLite beside the project."""

    enabled: bool = True
    uri: str | None = None
    experiment: str = "downsize"
