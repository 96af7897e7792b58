"""evaluate, register, budget, tracking: how a model is judged and kept."""

from __future__ import annotations

from typing import Annotated

from pydantic import StringConstraints

from tasks.params.section import Count, Fraction, NonNegative, Positive, Section


class Evaluate(Section):
    """Timing: `rounds` interleaved passes over all variants, `runs` calls each, one thread."""

    latency_rounds: Count = 20
    latency_runs: Count = 20
    throughput_batch_size: Count = 256
    slices: list[str] = []


class Register(Section):
    """intended_use, limits: for the model card. approval: the flow waits for a person and then promotes."""

    model_name: Annotated[str, StringConstraints(pattern=r"^[\w.-]+$")] = "downsize"
    intended_use: str = ""
    limits: str = ""
    approval: bool = False


class Budget(Section):
    """What the user allows, against the teacher. None leaves a figure unlimited.

    max_significant_drop: of a class or slice whose loss is no chance. min_parent_agreement: of the quantized file.
    """

    max_accuracy_drop: NonNegative = 0.005
    max_class_recall_drop: NonNegative | None = 0.02
    max_slice_drop: NonNegative | None = 0.05
    max_significant_drop: NonNegative | None = 0.02
    min_agreement: Fraction | None = 0.97
    min_parent_agreement: Fraction | None = 0.99
    max_negative_flips: NonNegative | None = 0.015
    max_ece_increase: NonNegative | None = 0.01
    max_size_bytes: Count | None = None
    max_latency_ms: Positive | None = None


class Tracking(Section):
    """MLflow. `uri` null means MLFLOW_TRACKING_URI, or SQLite beside the project."""

    enabled: bool = True
    uri: str | None = None
    experiment: str = "downsize"
