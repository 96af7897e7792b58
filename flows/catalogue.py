"""What `downsize list` shows: every name that params.yaml understands, family by family, read off the tables."""

from __future__ import annotations

import inspect
from typing import Any, Final, get_args

from tasks import params

UNIONS: Final[dict[str, Any]] = {
    "student": params.PrunedTeacher | params.Slim,
    "coreset": params.Coreset,
    "loss": params.Loss,
    "criterion": params.Criterion,
    "pattern": params.Prune,
    "schedule": params.Schedule,
    "calibration": params.CalibrationMethod,
    "rounding": params.Rounding,
    "scheme": params.Quantize,
}
MODELS: Final = (
    "tasks.models.cnn:CNN",
    "tasks.models.depthwise:DepthwiseCNN",
    "tasks.models.mlp:MLP",
    "tasks.models.resnet:ResNet",
)
EXPORTS: Final = {  # the module, and what of evaluate.exports it heeds
    "onnx": ("opset", ["opset", "dynamic_batch"]),
    "exported_program": ("pt2", ["dynamic_batch"]),
    "openvino": ("ir", ["dynamic_batch"]),
    "executorch": ("pte", list[str]()),
}
FAMILIES: Final = ("source", "model", *UNIONS, "export", "corruption")


def catalogue(family: str | None = None) -> list[dict[str, Any]]:
    """Entries {"family", "name", "source", "knobs"}, of one family or of all.

    Raises:
        ValueError: no such family.
    """
    if family is not None and family not in FAMILIES:
        raise ValueError(f"family '{family}' does not exist; choose one of {', '.join(FAMILIES)}")
    return [entry for name in FAMILIES if family in (None, name) for entry in _entries(name)]


def _entries(family: str) -> list[dict[str, Any]]:
    if family == "source":
        from tasks.data.sources import SOURCES

        return [_callable(family, f"tasks.data.sources:{name}", source) for name, source in SOURCES.items()]
    if family == "model":
        from tasks.params import Factory
        from tasks.plugins import resolve

        return [_callable(family, name, resolve(Factory(factory=name), "list")) for name in MODELS]
    if family == "export":
        return [_entry(family, name, f"tasks.export.{module}", knobs) for name, (module, knobs) in EXPORTS.items()]
    if family == "corruption":
        from tasks.data.corruptions import ALL

        return [_entry(family, name, corrupt.__module__, ["severities"]) for name, corrupt in ALL.items()]
    return [_section(family, model) for model in _members(UNIONS[family])]


def _members(union: Any) -> list[type[params.Section]]:
    """The models of a (possibly annotated) union."""
    inner = get_args(union)
    while inner and not all(isinstance(part, type) for part in inner):
        inner = get_args(inner[0])
    return list(inner)


def _section(family: str, model: type[params.Section]) -> dict[str, Any]:
    tag = family if family in ("pattern", "scheme") else "method"
    (name,) = get_args(model.model_fields[tag].annotation)
    return _entry(
        family, name, f"{model.__module__}:{model.__name__}", [key for key in model.model_fields if key != tag]
    )


def _callable(family: str, name: str, target: Any) -> dict[str, Any]:
    return _entry(family, name, name.partition(":")[0], list(inspect.signature(target).parameters))


def _entry(family: str, name: str, source: str, knobs: list[str]) -> dict[str, Any]:
    return {"family": family, "name": name, "source": source, "knobs": knobs}
