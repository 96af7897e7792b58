"""The same ONNX graph in the words of another version of the standard, or for one sample at a time."""

from __future__ import annotations

import re
from pathlib import Path

import onnx
from onnx import version_converter


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
        except (RuntimeError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
            text = " ".join(str(error).split())
            named = re.search(r"(?:for|for operator|Version of) ([A-Z]\w+)", text)
            what = f"{named[1]} cannot be said in it" if named else text[:200]
            raise ValueError(f"{field}.opset is {version}: {what}; {own} would do") from None
    if not dynamic_batch:
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(model, target)
