"""A quantized file as other processors would run it: its integer operations in NumPy, all others by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from tasks.measure.nested import reads
from tasks.quantize.products import Arithmetic, Integers, patches, product

Array = npt.NDArray[Any]
BATCH: Final = 64


@dataclass(frozen=True)
class _Quantized:
    """values: integers; scale and zero point as in DequantizeLinear."""

    values: Integers
    scale: Array
    zero: Array


class Emulator:
    """The quantized model on a processor that adds products up by `arithmetic`."""

    def __init__(self, model: onnx.ModelProto, arithmetic: Arithmetic) -> None:
        self._graph, self._arithmetic, self._model = model.graph, arithmetic, model
        self._constants = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
        self._makers = {output: node for node in model.graph.node for output in node.output if output}
        self._sessions: dict[int, onnxruntime.InferenceSession] = {}

    def run(self, inputs: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """(batch, classes): the first output for `inputs`.

        Raises:
            ValueError: a convolution in integers pads by itself.
        """
        batches = [inputs[start : start + BATCH] for start in range(0, len(inputs), BATCH)]
        return np.concatenate([self._batch(batch) for batch in batches])

    def _batch(self, inputs: Array) -> Array:
        values = {**self._constants, self._graph.input[0].name: inputs}
        for place, node in enumerate(self._graph.node):
            if self._is_integer(node):
                values[node.output[0]] = self._integer(node, values)
            else:
                values.update(self._float(place, node, values))
        answers: Array = values[self._graph.output[0].name]
        return answers

    def _is_integer(self, node: onnx.NodeProto) -> bool:
        fed = [self._makers[name].op_type for name in node.input[:2] if name in self._makers]
        return node.op_type in OPERATIONS and fed == ["DequantizeLinear"] * 2

    def _float(self, place: int, node: onnx.NodeProto, values: Mapping[str, Array]) -> dict[str, Array]:
        feeds = {name: values[name] for name in reads(node)}
        if place not in self._sessions:
            self._sessions[place] = _open_node(node, feeds, self._model)
        made = [name for name in node.output if name]
        return dict(zip(made, self._sessions[place].run(made, feeds), strict=True))

    def _integer(self, node: onnx.NodeProto, values: Mapping[str, Array]) -> Array:
        """What the operation gives on, on the grid of the QuantizeLinear behind it where there is one."""
        left, right = (self._quantized(name, values) for name in node.input[:2])
        if left.values.dtype == np.int8 and self._made_unsigned(node):
            left = _Quantized(
                (left.values.astype(np.int16) + 128).astype(np.uint8), left.scale, left.zero + np.int16(128)
            )
        sums = OPERATIONS[node.op_type](node, left, right, self._arithmetic)
        axis = 1 if node.op_type == "Conv" else -1
        if len(node.input) > 2:
            bias = self._quantized(node.input[2], values).values
            sums = sums + _along(bias, axis, sums.ndim)
        scale = _along(left.scale * right.scale, axis, sums.ndim)
        readers = self._readers(node.output[0])
        if [other.op_type for other in readers] != ["QuantizeLinear"]:
            return (sums.astype(np.float32) * scale).astype(np.float32)
        step, zero = (values[name] for name in readers[0].input[1:3])
        limits = np.iinfo(zero.dtype)
        levels = np.rint(sums.astype(np.float32) * (scale / step).astype(np.float32)) + float(zero)
        return ((np.clip(levels, limits.min, limits.max) - float(zero)) * step).astype(np.float32)

    def _made_unsigned(self, node: onnx.NodeProto) -> bool:
        """Whether ONNX Runtime on x86 turns the operation's signed input, and its output, into unsigned bytes.

        It does so with a tensor that one node alone reads; between a tensor of either type an operation stays in float.
        """
        if self._arithmetic == "s8s8":
            return False
        levels = [self._makers[node.input[0]].input[0]]
        levels += [other.output[0] for other in self._readers(node.output[0]) if other.op_type == "QuantizeLinear"]
        return all(self._lone(name) for name in levels)

    def _lone(self, level: str) -> bool:
        """Whether one operation reads the tensor, or none where it leaves the graph."""
        return sum(max(1, len(self._readers(other.output[0]))) for other in self._readers(level)) == 1

    def _readers(self, name: str) -> list[onnx.NodeProto]:
        return [other for other in self._graph.node if name in reads(other)]

    def _quantized(self, name: str, values: Mapping[str, Array]) -> _Quantized:
        maker = self._makers[name]
        integers, scale = values[maker.input[0]], values[maker.input[1]]
        zero = values[maker.input[2]] if len(maker.input) > 2 else np.zeros((), integers.dtype)
        return _Quantized(integers, scale, zero)


def _conv(node: onnx.NodeProto, left: _Quantized, right: _Quantized, arithmetic: Arithmetic) -> npt.NDArray[np.float64]:
    """(batch, channels, *places), whole numbers."""
    knobs = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    kernel = right.values.shape[2:]
    if knobs.get("auto_pad", b"NOTSET") != b"NOTSET":
        raise ValueError("quantize.portable: a Conv with auto_pad cannot be emulated; `portable: false` does without")
    pads, ones = knobs.get("pads", [0] * 2 * len(kernel)), [1] * len(kernel)
    edges = [(0, 0), (0, 0), *zip(pads[: len(kernel)], pads[len(kernel) :], strict=True)]
    padded = np.pad(left.values, edges, constant_values=left.zero)
    cut = patches(padded, kernel, knobs.get("strides", ones), knobs.get("dilations", ones))
    groups = knobs.get("group", 1)
    weights = np.split(np.moveaxis(right.values, 1, -1), groups)
    zeros = np.split(np.broadcast_to(right.zero, len(right.values)), groups)
    # depthwise kernels widen before they multiply
    kind = "s8s8" if right.values.shape[1] == 1 and len(right.values) == groups else arithmetic
    sums = [
        product(part.reshape(-1, weight[0].size), weight.reshape(len(weight), -1).T, (left.zero, zero), kind)
        for part, weight, zero in zip(np.split(cut, groups, axis=-1), weights, zeros, strict=True)
    ]
    places = cut.shape[: len(kernel) + 1]
    return np.moveaxis(np.concatenate(sums, axis=1).reshape(*places, -1), -1, 1)


def _gemm(node: onnx.NodeProto, left: _Quantized, right: _Quantized, arithmetic: Arithmetic) -> npt.NDArray[np.float64]:
    knobs = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    weights = right.values.T if knobs.get("transB") else right.values
    return product(left.values, weights, (left.zero, right.zero), arithmetic)


def _matmul(
    node: onnx.NodeProto, left: _Quantized, right: _Quantized, arithmetic: Arithmetic
) -> npt.NDArray[np.float64]:
    if right.values.ndim > 2:  # both are activations, unsigned, and their kernel is exact
        centred: npt.NDArray[np.float64] = left.values - left.zero.astype(float)
        exact: npt.NDArray[np.float64] = centred @ (right.values - right.zero.astype(float))
        return exact
    rows = left.values.reshape(-1, left.values.shape[-1])
    sums = product(rows, right.values, (left.zero, right.zero), arithmetic)
    return sums.reshape(*left.values.shape[:-1], -1)


def _along(vector: Array, axis: int, dimensions: int) -> Array:
    """A scalar or (n,) so shaped that it runs along `axis`."""
    if vector.ndim == 0 or vector.size == 1:
        return vector.reshape(())
    shape = [1] * dimensions
    shape[axis] = -1
    return vector.reshape(shape)


def _open_node(
    node: onnx.NodeProto, feeds: Mapping[str, Array], model: onnx.ModelProto
) -> onnxruntime.InferenceSession:
    """A session of this one node."""
    ends = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), [None] * array.ndim)
        for name, array in feeds.items()
    ]
    made = [helper.make_empty_tensor_value_info(name) for name in node.output if name]
    graph = helper.make_graph([node], "node", ends, made)
    single = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    return onnxruntime.InferenceSession(single.SerializeToString(), options, providers=["CPUExecutionProvider"])


OPERATIONS: Final = {"Conv": _conv, "Gemm": _gemm, "MatMul": _matmul}
