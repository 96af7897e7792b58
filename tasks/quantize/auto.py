"""For each tensor the calibration that harms the answers least."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from tasks.measure.runtime import open_session
from tasks.quantize.calibration import CALIBRATIONS, LEVELS, Histogram, Range
from tasks.quantize.inner import Values


def choose_ranges(
    model: onnx.ModelProto, histograms: Mapping[str, Histogram], batches: Callable[[], Iterable[Values]]
) -> tuple[dict[str, Range], dict[str, str]]:
    """Range and name of the calibration for each tensor.

    Each candidate of CALIBRATIONS rounds the one tensor to 256 levels and nothing else; the least squared error of the
    logits over the batches decides, and of equals the first in the table.
    """
    whole, source = open_session(model.SerializeToString()), model.graph.input[0].name
    expected = [whole.run(None, {source: inputs})[0] for inputs in batches()]
    ranges, methods = {}, {}
    for name, histogram in histograms.items():
        session = open_session(_rounding(model, name).SerializeToString())
        candidates = {method: choose(histogram) for method, choose in CALIBRATIONS.items()}
        errors = {method: _error(session, found, batches(), expected) for method, found in candidates.items()}
        methods[name] = min(errors, key=lambda method: errors[method])
        ranges[name] = candidates[methods[name]]
    return ranges, methods


def _error(
    session: onnxruntime.InferenceSession, found: Range, batches: Iterable[Values], expected: list[Values]
) -> float:
    """Sum of squared differences of the logits where the tensor is rounded within the range `found`."""
    low, high = found
    scale = np.array((high - low) / (LEVELS - 1), np.float32)
    knobs = {"rounding.scale": scale, "rounding.zero": np.array(round(-low / float(scale)), np.uint8)}
    name = session.get_inputs()[0].name
    return sum(
        float(np.square(session.run(None, {name: inputs, **knobs})[0] - wanted).sum())
        for inputs, wanted in zip(batches, expected, strict=True)
    )


def _rounding(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """The model with the tensor rounded to levels whose scale and zero point are inputs."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    made.graph.ClearField("value_info")
    for node in made.graph.node:
        node.input[:] = ["rounding.value" if read == name else read for read in node.input]
    for kind, dtype in (("scale", TensorProto.FLOAT), ("zero", TensorProto.UINT8)):
        made.graph.input.append(helper.make_tensor_value_info(f"rounding.{kind}", dtype, []))
    for output in made.graph.output:
        if output.name == name:
            output.name = "rounding.value"
    makers = [place for place, node in enumerate(made.graph.node) if name in node.output]
    knobs = ["rounding.scale", "rounding.zero"]
    pair = [
        helper.make_node("QuantizeLinear", [name, *knobs], ["rounding.level"]),
        helper.make_node("DequantizeLinear", ["rounding.level", *knobs], ["rounding.value"]),
    ]
    nodes = list(made.graph.node)
    after = makers[0] + 1 if makers else 0
    del made.graph.node[:]
    made.graph.node.extend([*nodes[:after], *pair, *nodes[after:]])
    return made
