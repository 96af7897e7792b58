"""Weights alone in few bits, by group; stored so, and expanded once when the file is loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

Floats = npt.NDArray[np.float32]
# METHODS of HQQ's authors: the norm's exponent, the penalty, its growth, and how often
NORM, PENALTY, GROWTH, ITERATIONS = 0.7, 10.0, 1.01, 20
INT4_OPSET: Final = 21  # the first whose Cast reads four-bit integers


@dataclass(frozen=True)
class Grouped:
    """A weight is (level - zero) * scale; levels: (out, groups, size), uint8; scale and zero: (out, groups, 1)."""

    levels: npt.NDArray[np.uint8]
    scale: npt.NDArray[np.float16]
    zero: npt.NDArray[np.float16]

    @property
    def values(self) -> Floats:
        """(out, groups, size), as the runtime expands them."""
        return (self.levels.astype(np.float32) - self.zero.astype(np.float32)) * self.scale.astype(np.float32)


def rtn(groups: Floats, *, bits: int) -> Grouped:
    """Each weight rounded to the nearest level of its group, whose range holds zero.

    groups: (out, groups, size).
    """
    low, high = (np.minimum(groups.min(-1, keepdims=True), 0), np.maximum(groups.max(-1, keepdims=True), 0))
    scale = _rounded_up((high - low) / (2**bits - 1))
    zero = np.rint(-low / scale.astype(np.float32)).astype(np.float16)
    return Grouped(_levels(groups, scale, zero, bits), scale, zero)


def hqq(groups: Floats, *, bits: int) -> Grouped:
    """rtn's scale with the zero point, not whole, whose errors have the least norm below one: outliers count little.

    Badri and Shaji 2023, Half-Quadratic Quantization, with the authors' defaults. Never worse than rtn by that norm.
    """
    best = found = rtn(groups, bits=bits)
    scale, penalty = best.scale.astype(np.float32), PENALTY
    for _ in range(ITERATIONS):
        error = groups - found.values
        size = np.maximum(np.abs(error), 1e-8)
        outliers = np.sign(error) * np.maximum(size - size ** (NORM - 1) / penalty, 0)
        zero = (found.levels - (groups - outliers) / scale).mean(-1, keepdims=True).astype(np.float16)
        found = Grouped(_levels(groups, best.scale, zero, bits), best.scale, zero)
        better = _norm(groups - found.values) < _norm(groups - best.values)
        best = Grouped(np.where(better, found.levels, best.levels), best.scale, np.where(better, found.zero, best.zero))
        penalty *= GROWTH
    return best


def quantize_weights(model: onnx.ModelProto, method: str, *, bits: int, group_size: int) -> onnx.ModelProto:
    """The model with every constant weight of a convolution or product stored in four bits.

    Groups run along the inputs of one output. Arithmetic stays in float.

    Raises:
        ValueError: there is no such weight, or one is not finite.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    for item in made.opset_import:
        if item.domain == "":
            item.version = max(item.version, INT4_OPSET)
    stored = {item.name: item for item in made.graph.initializer}
    expansions: list[onnx.NodeProto] = []
    for name, upright in dict(_weights(made.graph, stored)).items():
        weight = numpy_helper.to_array(stored[name]).astype(np.float32)
        if not np.isfinite(weight).all():
            raise ValueError(f"quantize.scheme: weight {name} is not finite")
        rows = weight.T if upright else weight.reshape(len(weight), -1)
        found = WEIGHTS[method](_grouped(rows, group_size), bits=bits)
        expansions += _expand_(made.graph, name, found, weight.shape, upright)
        made.graph.initializer.remove(stored[name])
    if not expansions:
        raise ValueError("quantize.scheme: the model has no convolution or product with constant weights")
    nodes = [*expansions, *made.graph.node]
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    return made


def _weights(graph: onnx.GraphProto, stored: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    """(name, whether its outputs are columns) of each weight matrix."""
    for node in graph.node:
        if node.op_type not in ("Conv", "Gemm", "MatMul") or node.input[1] not in stored:
            continue
        if node.op_type == "MatMul" and len(stored[node.input[1]].dims) != 2:
            continue
        flags = {item.name: helper.get_attribute_value(item) for item in node.attribute}
        yield node.input[1], node.op_type == "MatMul" or (node.op_type == "Gemm" and not flags.get("transB"))


def _grouped(rows: Floats, size: int) -> Floats:
    """(out, groups, size), filled up with zeros; a row shorter than a group is one."""
    size = min(size, rows.shape[1])
    padded = np.pad(rows, ((0, 0), (0, -rows.shape[1] % size)))
    return padded.reshape(len(rows), -1, size)


def _expand_(
    graph: onnx.GraphProto, name: str, found: Grouped, shape: tuple[int, ...], upright: bool
) -> list[onnx.NodeProto]:
    """Add the parts of the weight `name` to the graph; nodes that make it, all of which are folded at load."""
    kept, width = (shape[::-1] if upright else shape), found.levels[0].size
    flat = int(np.prod(kept[1:]))
    pairs = np.pad(found.levels.ravel(), (0, found.levels.size % 2)).reshape(-1, 2)
    packed = (pairs[:, 0] | pairs[:, 1] << 4).astype(np.uint8).tobytes()
    levels = helper.make_tensor(f"{name}.levels", TensorProto.UINT4, found.levels.shape, packed, raw=True)
    arrays = {"scale": found.scale, "zero": found.zero, "wide": np.array([len(found.levels), width])}
    arrays |= {"start": np.array([0]), "end": np.array([flat]), "axis": np.array([1]), "shape": np.array(kept)}
    graph.initializer.extend([levels, *(numpy_helper.from_array(a, f"{name}.{key}") for key, a in arrays.items())])
    steps = [
        ("Cast", ["levels"], "level"), ("Cast", ["zero"], "zero_float"), ("Cast", ["scale"], "scale_float"),
        ("Sub", ["level", "zero_float"], "centred"), ("Mul", ["centred", "scale_float"], "scaled"),
        ("Reshape", ["scaled", "wide"], "rows"), ("Slice", ["rows", "start", "end", "axis"], "cut"),
        ("Reshape", ["cut", "shape"], "upright" if upright else ""),
    ]  # fmt: skip
    steps += [("Transpose", ["upright"], "")] * upright
    return [
        helper.make_node(
            operator,
            [f"{name}.{part}" for part in inputs],
            [f"{name}.{output}" if output else name],
            **({"to": TensorProto.FLOAT} if operator == "Cast" else {}),
        )
        for operator, inputs, output in steps
    ]


def _rounded_up(scale: Floats) -> npt.NDArray[np.float16]:
    """In half precision, never below what the range needs, and never zero."""
    half = np.maximum(scale, np.finfo(np.float16).smallest_subnormal).astype(np.float16)
    return np.where(half < scale, np.nextafter(half, np.float16(np.inf)), half)


def _levels(
    groups: Floats, scale: npt.NDArray[np.float16], zero: npt.NDArray[np.float16], bits: int
) -> npt.NDArray[np.uint8]:
    places = np.rint(groups / scale.astype(np.float32) + zero.astype(np.float32))
    return np.clip(places, 0, 2**bits - 1).astype(np.uint8)


def _norm(errors: Floats) -> Floats:
    total: Floats = (np.abs(errors) ** NORM).sum(-1, keepdims=True)
    return total


WEIGHTS: Final[Mapping[str, Callable[..., Grouped]]] = {"rtn": rtn, "hqq": hqq}
