"""params.yaml as frozen, strict models: one section per stage, plus seed, budget and tracking.

Every default of the project lives here. Imports nothing heavy, so that `downsize check` answers at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

Share = Annotated[float, Field(gt=0, lt=1)]
Fraction = Annotated[float, Field(gt=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Dotted = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]


class Section(BaseModel):
    """A part of params.yaml: unknown keys refused, values never coerced, nothing changed after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Factory(Section):
    """`module:name` called with `args`: the one way to name a model, a data source or a loss."""

    factory: Dotted
    args: dict[str, JsonValue] = {}


# --- data -----------------------------------------------------------------------------------------------------------


class Ingest(Section):
    source: Factory


class Expectation(Section):
    """One Great Expectations rule by its own name, for example ExpectColumnMaxToBeBetween."""

    type: Annotated[str, StringConstraints(pattern=r"^Expect\w+$")]
    kwargs: dict[str, JsonValue] = {}


class Range(Section):
    min: float | None = None
    max: float | None = None


class Validate(Section):
    min_per_class: Count = 4
    classes: Annotated[tuple[str, ...], Field(strict=False)] | None = None
    not_null: Annotated[tuple[str, ...], Field(strict=False)] = ()
    unique: Annotated[tuple[str, ...], Field(strict=False)] = ()
    ranges: dict[str, Range] = {}
    types: dict[str, str] = {}
    expectations: Annotated[tuple[Expectation, ...], Field(strict=False)] = ()
    allow: Annotated[tuple[Literal["constant", "identifier"], ...], Field(strict=False)] = ()


class Split(Section):
    test: Share = 0.2
    validation: Share = 0.1
    group: str | None = None

    @model_validator(mode="after")
    def _leaves_training_data(self) -> Split:
        if self.test + self.validation >= 1:
            raise ValueError(f"test {self.test} + validation {self.validation} must be below 1")
        return self


# --- coreset --------------------------------------------------------------------------------------------------------


class Proxy(Section):
    """The small network whose last hidden layer supplies the features."""

    epochs: Count = 5
    width: Count = 32


class Selection(Section):
    """What every selection needs: a budget, as a fraction of the training split or a count per class."""

    fraction: Fraction | None = None
    per_class: Count | None = None
    features: Literal["proxy", "raw"] = "proxy"
    proxy: Proxy = Proxy()

    @model_validator(mode="after")
    def _one_budget(self) -> Selection:
        if (self.fraction is None) == (self.per_class is None):
            raise ValueError("give exactly one of fraction and per_class")
        return self


class RandomSelection(Selection):
    method: Literal["random"]


class Stratified(Selection):
    method: Literal["stratified"]


class KMeans(Selection):
    method: Literal["k_means"]


class Herding(Selection):
    method: Literal["herding"]


class KCenter(Selection):
    method: Literal["k_center"]


Coreset = Annotated[RandomSelection | Stratified | KMeans | Herding | KCenter, Field(discriminator="method")]


# --- training -------------------------------------------------------------------------------------------------------


class Augment(Section):
    """Image augmentation, drawn anew for every sample and epoch; sizes in pixels."""

    shift: Annotated[int, Field(ge=0)] = 0
    flip: bool = False
    cutout: Annotated[int, Field(ge=0)] = 0


class Train(Section):
    """One training: linear warm-up to `lr` over `warmup` of the steps, then linear to zero."""

    epochs: Annotated[int, Field(ge=0)] = 10
    batch_size: Count = 128
    optimizer: Literal["adamw", "sgd"] = "adamw"
    lr: Positive = 0.01
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.2
    weight_decay: NonNegative = 0.0005
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    ema: Share | None = None
    precision: Literal["float32", "bfloat16"] = "float32"
    augment: Augment = Augment()


class Kd(Section):
    method: Literal["kd"]
    temperature: Positive = 4.0
    weight: Positive = 0.9


class KdStandardised(Section):
    method: Literal["kd_standardised"]
    temperature: Positive = 2.0
    weight: Positive = 9.0


class Dkd(Section):
    method: Literal["dkd"]
    temperature: Positive = 4.0
    alpha: NonNegative = 1.0
    beta: NonNegative = 8.0
    weight: Positive = 1.0


class Dist(Section):
    method: Literal["dist"]
    temperature: Positive = 1.0
    inter: NonNegative = 1.0
    intra: NonNegative = 1.0
    weight: Positive = 2.0


Loss = Annotated[Kd | KdStandardised | Dkd | Dist, Field(discriminator="method")]
Losses = Annotated[tuple[Loss, ...], Field(strict=False, min_length=1)]


class Teacher(Section):
    model: Factory
    checkpoint: str | None = None
    train: Train = Train()


class Distill(Section):
    model: Factory
    losses: Losses = (Kd(method="kd"),)
    target_weight: NonNegative = 0.1
    train: Train = Train()


# --- prune ----------------------------------------------------------------------------------------------------------


class L1(Section):
    method: Literal["l1"]


class L2(Section):
    method: Literal["l2"]


Criterion = Annotated[L1 | L2, Field(discriminator="method")]


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


class MacsTarget(Section):
    """Share of the dense model's multiply-accumulates that is left."""

    macs: Share


class SparsityTarget(Section):
    """Share of the weights that become zero."""

    sparsity: Share


class Recovery(Section):
    """Training after each pruning step, towards the teacher."""

    losses: Losses = (Kd(method="kd"),)
    target_weight: NonNegative = 0.1
    step: Train = Train(epochs=1, lr=0.002)
    final: Train = Train(epochs=5, lr=0.005)


class ChannelPruning(Section):
    pattern: Literal["channel"]
    target: MacsTarget
    criterion: Criterion = L2(method="l2")
    schedule: Schedule = Linear(method="linear")
    sensitivity: Sensitivity = Sensitivity()
    round_to: Count = 4
    recovery: Recovery = Recovery()


class UnstructuredPruning(Section):
    pattern: Literal["unstructured"]
    target: SparsityTarget
    criterion: Criterion = L1(method="l1")
    schedule: Schedule = Cubic(method="cubic")
    sensitivity: Sensitivity = Sensitivity()
    recovery: Recovery = Recovery()


Prune = Annotated[ChannelPruning | UnstructuredPruning, Field(discriminator="pattern")]


# --- quantize, evaluate, register -----------------------------------------------------------------------------------


class Calibration(Section):
    """How activation ranges are read off `samples` training samples."""

    samples: Count = 512


class MinMax(Calibration):
    method: Literal["min_max"]


class Percentile(Calibration):
    method: Literal["percentile"]
    percentile: Annotated[float, Field(gt=50, le=100)] = 99.99


class Entropy(Calibration):
    method: Literal["entropy"]


class Mse(Calibration):
    method: Literal["mse"]


class Quantize(Section):
    scheme: Literal["int8"] = "int8"
    calibration: Annotated[MinMax | Percentile | Entropy | Mse, Field(discriminator="method")] = Mse(method="mse")


class Evaluate(Section):
    """Timing: `rounds` interleaved passes over all variants, `runs` calls each, one thread."""

    latency_rounds: Count = 20
    latency_runs: Count = 20
    throughput_batch_size: Count = 256


class Register(Section):
    model_name: Annotated[str, StringConstraints(pattern=r"^[\w.-]+$")] = "downsize"


class Budget(Section):
    """What the user allows, against the teacher. None leaves a figure unlimited."""

    max_accuracy_drop: NonNegative = 0.005
    max_class_recall_drop: NonNegative | None = 0.02
    max_size_bytes: Count | None = None
    max_latency_ms: Positive | None = None


class Tracking(Section):
    """MLflow. `uri` null means MLFLOW_TRACKING_URI, or SQLite beside the project."""

    enabled: bool = True
    uri: str | None = None
    experiment: str = "downsize"


class Params(Section):
    """The whole of params.yaml, in pipeline order."""

    seed: Annotated[int, Field(ge=0)] = 0
    ingest: Ingest
    validate_: Annotated[Validate, Field(alias="validate")] = Validate()
    split: Split = Split()
    coreset: Coreset
    teacher: Teacher
    distill: Distill
    prune: Prune
    quantize: Quantize = Quantize()
    evaluate: Evaluate = Evaluate()
    register_: Annotated[Register, Field(alias="register")] = Register()
    budget: Budget = Budget()
    tracking: Tracking = Tracking()

    def section(self, name: str) -> object:
        """The section as it is called in params.yaml."""
        value: object = getattr(self, _ATTRIBUTE.get(name, name))
        return value


# pydantic's BaseModel already has methods of these names
_ATTRIBUTE: Final = {"validate": "validate_", "register": "register_"}


def load_params(path: Path) -> Params:
    """Read and check a params file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: one line for every field that is wrong: its name, its value and what would do.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such params file")
    try:
        raw = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except YAMLError as error:
        raise ValueError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(raw, dict):
        raise ValueError(f"{path}: needs one section per stage, found {type(raw).__name__}")
    try:
        return Params.model_validate(raw)
    except ValidationError as error:
        raise ValueError(f"{path}: " + "; ".join(_explain(item) for item in error.errors())) from None


def _explain(item: object) -> str:
    """One pydantic error as `field is value: what would do`."""
    assert isinstance(item, dict)
    field = ".".join(str(part) for part in item["loc"] if part not in ("function-after", "function-before"))
    message = str(item["msg"]).removeprefix("Value error, ")
    if item["type"] == "extra_forbidden":
        return f"unknown key {field}"
    if item["type"] == "missing":
        return f"{field} is missing"
    if item["type"] == "union_tag_not_found":
        return f"{field} lacks its {item['ctx']['discriminator'].strip(chr(39))}; `downsize list` shows what there is"
    if item["type"] == "union_tag_invalid":
        tag, expected = item["ctx"]["tag"], item["ctx"]["expected_tags"]
        return f"{field}.{item['ctx']['discriminator'].strip(chr(39))} is '{tag}'; it must be one of {expected}"
    value = item["input"]
    shown = f" is {value!r}" if isinstance(value, (str, int, float, bool)) or value is None else ""
    return f"{field}{shown}: {message[0].lower()}{message[1:]}"
