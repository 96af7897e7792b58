"""The whole of params.yaml, read and checked."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import filterfalse
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import Field, ValidationError, ValidationInfo, field_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from tasks.params.coreset import Coreset
from tasks.params.data import Ingest, Split, Validate
from tasks.params.distill import Distill
from tasks.params.outcome import Budget, Evaluate, Register, Tracking
from tasks.params.prune import Prune
from tasks.params.quantize import Int8, Quantize, stored_type
from tasks.params.running import Notify, Timeouts, Timetable
from tasks.params.search import Search
from tasks.params.section import Section
from tasks.params.training import Teacher


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
    quantize: Quantize = Int8(scheme="int8")
    evaluate: Evaluate = Evaluate()
    register_: Annotated[Register, Field(alias="register")] = Register()
    budget: Annotated[Budget, Field(validate_default=True)] = Budget()
    tracking: Tracking = Tracking()
    timeouts: Timeouts = Timeouts()
    schedule: Timetable = Timetable()
    notify: Notify = Notify()
    search: Search = Search()

    @field_validator("budget")
    @classmethod
    def _its_limits_are_measured(cls, budget: Budget, info: ValidationInfo) -> Budget:
        evaluate = info.data.get("evaluate")
        if budget.max_corruption_drop is not None and evaluate and evaluate.corruptions is None:
            raise ValueError(
                "max_corruption_drop limits what evaluate.corruptions measures; that is null: make it {}, "
                "or the limit null"
            )
        if budget.max_shifted_drop is not None and evaluate and evaluate.shifted is None:
            raise ValueError("max_shifted_drop limits what evaluate.shifted measures; name a source there")
        return budget

    @field_validator("evaluate")
    @classmethod
    def _its_opset_has_the_types(cls, evaluate: Evaluate, info: ValidationInfo) -> Evaluate:
        quantize = info.data.get("quantize")
        if quantize is None or "onnx" not in evaluate.exports.formats:
            return evaluate
        kind, least = stored_type(quantize)
        if evaluate.exports.opset < least:
            raise ValueError(
                f"exports.opset is {evaluate.exports.opset}, which has no {kind}, and quantize.scheme "
                f"{quantize.scheme} stores weights so; {least} would do"
            )
        return evaluate

    def section(self, name: str) -> object:
        """The section as it is called in params.yaml, or a field of one: `budget.max_accuracy_drop`."""
        section, *fields = name.split(".")
        value: object = getattr(self, _ATTRIBUTE.get(section, section))
        for field in fields:
            value = getattr(value, field)
        return value


# pydantic's BaseModel already has methods of these names
_ATTRIBUTE: Final = {"validate": "validate_", "register": "register_"}


# parts of pydantic's path that stand in no params file
UNSAID: Final = ("function-after", "function-before", "listed", "span", "auto", "by_share", "by_budget")


def load_params(path: Path) -> Params:
    """Read and check a params file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: one line for every field that is wrong: its name, its value and what would do.
    """
    return parse_params(read_params(path), str(path))


def read_params(path: Path) -> dict[str, Any]:
    """A params file as it is written, before any check of its fields.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is not YAML, or no mapping.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such params file")
    try:
        raw = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except YAMLError as error:
        raise ValueError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(raw, dict):
        raise ValueError(f"{path}: needs one section per stage, found {type(raw).__name__}")
    return raw


def parse_params(raw: Mapping[str, Any], source: str) -> Params:
    """Check what read_params found; `source` is what errors begin with.

    Raises:
        ValueError: one line for every field that is wrong.
    """
    try:
        return Params.model_validate(raw)
    except ValidationError as error:
        raise ValueError(f"{source}: " + "; ".join(map(_explain, filterfalse(_follows, error.errors())))) from None


def _follows(item: object) -> bool:
    """Whether a list is called too short only because an entry is wrong, which has a line of its own."""
    assert isinstance(item, dict)
    return bool(item["type"] == "too_short" and len(item["input"]) >= item["ctx"]["min_length"])


def _explain(item: object) -> str:
    """One pydantic error as `field is value: what would do`."""
    assert isinstance(item, dict)
    field = ".".join(str(part) for part in item["loc"] if part not in UNSAID)
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
