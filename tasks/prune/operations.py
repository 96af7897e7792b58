"""How long each layer takes in ONNX Runtime as a function of its channels, measured on this machine.

At batch 1 the time of a small network is set by how many operations it has, less by their multiply-accumulates: what
the layers do not account for stays whatever is cut from them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from scipy.interpolate import RegularGridInterpolator
from torch import nn

from tasks.measure.runtime import Call, open_session
from tasks.measure.timing import take_turns
from tasks.prune.graph import TRANSPOSED, Layer

SHARES: Final = (0.0, 0.25, 0.5, 0.75, 1.0)  # of a layer's inputs and outputs, at least one of each
ROUNDS: Final = 5  # in which the sizes of a layer take turns,
RUNS: Final = 10  # with so many calls each
OPSET: Final = 20
Sizes = tuple[int, int]


@dataclass(frozen=True)
class Operation:
    """p50 latency at batch 1 of a layer with so many inputs and outputs, all its runs in a pass together."""

    layer: str
    inputs: int
    outputs: int
    latency_ms: float


@dataclass(frozen=True)
class OperationTable:
    """rest_ms: what the model takes beyond its layers, now."""

    rows: Sequence[Operation]
    rest_ms: float

    def latency_ms(self, sizes: Mapping[str, Sizes]) -> float:
        """Of the model with so many inputs and outputs of each layer."""
        return self.rest_ms + sum(float(self._curves[name](size)) for name, size in sizes.items())

    @cached_property
    def _curves(self) -> dict[str, RegularGridInterpolator]:
        tables: defaultdict[str, dict[Sizes, float]] = defaultdict(dict)
        for row in self.rows:
            tables[row.layer][row.inputs, row.outputs] = row.latency_ms
        return {name: _curve(table) for name, table in tables.items()}


def operation_table(layers: Mapping[str, Layer], whole_ms: float) -> OperationTable:
    """Measure every layer alone at a grid of sizes; of equal layers one.

    whole_ms: p50 latency of the model as it is now.
    """
    known: dict[str, dict[Sizes, float]] = {}
    rows = []
    for name, layer in layers.items():
        for shape in layer.input_shapes:
            key = f"{layer.module} {shape}"
            if key not in known:
                known[key] = _measured(layer, shape)
        total = {
            size: sum(known[f"{layer.module} {shape}"][size] for shape in layer.input_shapes) for size in _grid(layer)
        }
        rows += [Operation(name, *size, latency_ms) for size, latency_ms in total.items()]
    table = OperationTable(rows, 0.0)
    layers_ms = table.latency_ms({name: (layer.inputs, layer.outputs) for name, layer in layers.items()})
    return OperationTable(rows, max(0.0, whole_ms - layers_ms))


def _curve(table: Mapping[Sizes, float]) -> RegularGridInterpolator:
    inputs, outputs = (np.unique([size[axis] for size in table]) for axis in (0, 1))
    values = np.array([[table[row, column] for column in outputs] for row in inputs])
    # a layer of one input or one output has no second point to run a line through
    if len(inputs) == 1:
        inputs, values = np.append(inputs, inputs[-1] + 1), np.repeat(values, 2, axis=0)
    if len(outputs) == 1:
        outputs, values = np.append(outputs, outputs[-1] + 1), np.repeat(values, 2, axis=1)
    return RegularGridInterpolator((inputs, outputs), values)


def _grid(layer: Layer) -> list[Sizes]:
    axes = [sorted({max(1, round(share * most)) for share in SHARES}) for most in (layer.inputs, layer.outputs)]
    return [(inputs, outputs) for inputs in axes[0] for outputs in axes[1]]


def _measured(layer: Layer, input_shape: Sequence[int]) -> dict[Sizes, float]:
    """What a call costs with nothing in it is taken off."""
    calls: dict[str, Call] = {"": _call(onnx_identity(), (1,))}
    for inputs, outputs in _grid(layer):
        model, shape = onnx_layer(layer.module, input_shape, inputs, outputs)
        calls[f"{inputs} {outputs}"] = _call(model, shape)
    runs = take_turns(calls, np.zeros((1, 1), np.float32), ROUNDS, RUNS, 1)
    p50_ms = {name: 1000 * float(np.median(own.single)) for name, own in runs.items()}
    return {(inputs, outputs): max(0.0, p50_ms[f"{inputs} {outputs}"] - p50_ms[""]) for inputs, outputs in _grid(layer)}


def _call(model: onnx.ModelProto, shape: Sequence[int]) -> Call:
    session = open_session(model.SerializeToString())
    own = np.random.default_rng(0).standard_normal((1, *shape)).astype(np.float32)
    return lambda _: session.run(None, {"x": own})


def onnx_identity() -> onnx.ModelProto:
    """A file that does nothing."""
    return _model([helper.make_node("Identity", ["x"], ["y"])], [])


def onnx_layer(
    module: nn.Module, input_shape: Sequence[int], inputs: int, outputs: int
) -> tuple[onnx.ModelProto, tuple[int, ...]]:
    """A file with this layer alone, of so many inputs per group and outputs, and the shape of a sample for it.

    Its weights are drawn at random: they do not change the time.
    """
    weights = np.random.default_rng(0)
    if isinstance(module, nn.Linear):
        weight = weights.standard_normal((inputs, outputs)).astype(np.float32)
        return _model([helper.make_node("MatMul", ["x", "w"], ["y"])], [weight]), (*input_shape[:-1], inputs)
    assert isinstance(module, nn.Conv1d | nn.Conv2d | nn.ConvTranspose1d | nn.ConvTranspose2d)
    depthwise = module.groups == module.in_channels == module.out_channels
    groups = outputs if depthwise and module.groups > 1 else module.groups
    transposed = isinstance(module, TRANSPOSED)
    if groups > 1 and not depthwise:  # such layers keep their sizes
        outputs = max(groups, outputs // groups * groups)
    first, second = (inputs * groups, outputs // groups) if transposed else (outputs, inputs)
    weight = weights.standard_normal((first, second, *module.kernel_size)).astype(np.float32)
    before, after = _padding(module)
    more: dict[str, Any] = {"output_padding": list(module.output_padding)} if transposed else {}
    node = helper.make_node(
        "ConvTranspose" if transposed else "Conv",
        ["x", "w"],
        ["y"],
        strides=list(module.stride),
        dilations=list(module.dilation),
        group=groups,
        pads=before + after,
        **more,
    )
    return _model([node], [weight]), (inputs * groups, *input_shape[1:])


def _padding(module: Any) -> tuple[list[int], list[int]]:
    """Before and after, by dimension; how the border is filled makes little of the time."""
    if isinstance(module, TRANSPOSED):
        return [*module.padding], [*module.padding]
    # PyTorch has them from the last dimension to the first
    both = module._reversed_padding_repeated_twice
    return both[0::2][::-1], both[1::2][::-1]


def _model(nodes: Sequence[onnx.NodeProto], weights: Sequence[npt.NDArray[np.float32]]) -> onnx.ModelProto:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", "y")]
    tensors = [numpy_helper.from_array(weight, "w") for weight in weights]
    graph = helper.make_graph(nodes, "layer", ends[:1], ends[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
