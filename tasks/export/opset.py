"""The same ONNX graph in the words of another version of the standard, or for one sample at a time."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import onnx
from onnx import version_converter

FAILURES: Final = (
    RuntimeError,
    version_converter.ConvertError,
    onnx.checker.ValidationError,
    onnx.shape_inference.InferenceError,
)


def convert(source: Path, target: Path, version: int, *, dynamic_batch: bool, field: str) -> None:
    """Write the file at `source` in opset `version` to `target`; any batch, or batches of one.

    Raises:
        ValueError: an operation of the graph cannot be said in that version.
    """
    model = onnx.load(source)
    own = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if version != own:
        try:
            model = version_converter.convert_version(model, version)
            onnx.checker.check_model(model, full_check=True)
        except FAILURES as error:
            raise ValueError(f"{field}.opset is {version}: {_lacking(str(error))}; {own} would do") from None
    if not dynamic_batch:
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(model, target)


def _lacking(error: str) -> str:
    """What the version cannot say, in the converter's words where they are not known."""
    text = " ".join(error.split())
    if typed := re.search(r"DataType \((\d+)\) of Input or Output of operator '(\w+)'", text):
        return f"{typed[2]} of {onnx.TensorProto.DataType.Name(int(typed[1]))} cannot be said in it"
    named = re.search(r"(?:for|for operator|Version of) ([A-Z]\w+)", text)
    return f"{named[1]} cannot be said in it" if named else text[:200]
