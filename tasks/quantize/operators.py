"""ONNX's operations in PyTorch, with gradients: those that exported networks are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional as F

Attributes = Mapping[str, Any]
Operator = Callable[..., Any]
TensorOperator = Callable[..., Tensor]
CONVOLUTIONS: Final[Mapping[int, TensorOperator]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
TRANSPOSED: Final[Mapping[int, TensorOperator]] = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
MAXIMA: Final[Mapping[int, TensorOperator]] = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
MEANS: Final[Mapping[int, TensorOperator]] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def conv(knobs: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Padding may differ from side to side."""
    places = weight.ndim - 2
    x, pads = _padded(knobs, x, places, 0.0)
    return CONVOLUTIONS[places](
        x, weight, bias, knobs.get("strides", 1), pads, knobs.get("dilations", 1), knobs.get("group", 1)
    )


def conv_transpose(knobs: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The same padding on both sides."""
    places = weight.ndim - 2
    pads = knobs.get("pads", [0] * 2 * places)
    _refuse(pads[:places] != pads[places:] or "output_shape" in knobs, "ConvTranspose with uneven padding")
    more, group = knobs.get("output_padding", 0), knobs.get("group", 1)
    strides, dilations = knobs.get("strides", 1), knobs.get("dilations", 1)
    return TRANSPOSED[places](x, weight, bias, strides, pads[:places], more, group, dilations)


def gemm(knobs: Attributes, left: Tensor, right: Tensor, bias: Tensor | None = None) -> Tensor:
    """alpha * left @ right + beta * bias."""
    left, right = (left.T if knobs.get("transA") else left), (right.T if knobs.get("transB") else right)
    product: Tensor = knobs.get("alpha", 1.0) * (left @ right)
    return product if bias is None else product + knobs.get("beta", 1.0) * bias


def max_pool(knobs: Attributes, x: Tensor) -> Tensor:
    """Padding counts as minus infinity."""
    places = x.ndim - 2
    x, pads = _padded(knobs, x, places, -torch.inf)
    strides, ceil = knobs.get("strides", [1] * places), bool(knobs.get("ceil_mode"))
    return MAXIMA[places](x, knobs["kernel_shape"], strides, pads, knobs.get("dilations", 1), ceil)


def average_pool(knobs: Attributes, x: Tensor) -> Tensor:
    """The same padding on both sides."""
    places = x.ndim - 2
    pads = knobs.get("pads", [0] * 2 * places)
    _refuse(pads[:places] != pads[places:] or knobs.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"), "AveragePool")
    strides, ceil = knobs.get("strides", [1] * places), bool(knobs.get("ceil_mode"))
    return MEANS[places](x, knobs["kernel_shape"], strides, pads[:places], ceil, bool(knobs.get("count_include_pad")))


def batch_normalization(
    knobs: Attributes, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor
) -> Tensor:
    """With the statistics of training."""
    return F.batch_norm(x, mean, variance, scale, bias, eps=knobs.get("epsilon", 1e-5))


def layer_normalization(knobs: Attributes, x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
    """Over all axes from `axis` on."""
    shape = x.shape[knobs.get("axis", -1) :]
    whole = None if bias is None else bias.expand(shape)
    return F.layer_norm(x, shape, scale.expand(shape), whole, knobs.get("epsilon", 1e-5))


def clip(knobs: Attributes, x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    """Either limit may be absent."""
    return x if low is None and high is None else torch.clamp(x, low, high)


def flatten(knobs: Attributes, x: Tensor) -> Tensor:
    """Two axes."""
    axis = knobs.get("axis", 1)
    return x.reshape(int(torch.tensor(x.shape[:axis]).prod()) if axis else 1, -1)


def reshape(knobs: Attributes, x: Tensor, shape: Tensor) -> Tensor:
    """Zero keeps an axis as it is."""
    keeps = not knobs.get("allowzero")
    return x.reshape([x.shape[axis] if size == 0 and keeps else size for axis, size in enumerate(shape.tolist())])


def slice_(
    knobs: Attributes, x: Tensor, starts: Tensor, ends: Tensor, axes: Tensor | None = None, steps: Tensor | None = None
) -> Tensor:
    """Forwards only."""
    places = range(len(starts)) if axes is None else axes.tolist()
    strides = [1] * len(starts) if steps is None else steps.tolist()
    cuts = [slice(None)] * x.ndim
    for axis, start, end, step in zip(places, starts.tolist(), ends.tolist(), strides, strict=True):
        _refuse(step < 1, "Slice backwards")
        # ends are often the least and greatest of all numbers
        first, last = (min(max(place, -x.shape[axis]), x.shape[axis]) for place in (start, end))
        cuts[axis] = slice(first, last, step)
    return x[tuple(cuts)]


def split(knobs: Attributes, x: Tensor, sizes: Tensor | None = None) -> tuple[Tensor, ...]:
    """Into equal parts where no sizes are given."""
    axis = knobs.get("axis", 0)
    if sizes is None:
        return torch.chunk(x, knobs["num_outputs"], axis)
    return torch.split(x, sizes.tolist(), axis)


def gather(knobs: Attributes, x: Tensor, indices: Tensor) -> Tensor:
    """Along one axis; indices of any shape."""
    axis = knobs.get("axis", 0) % x.ndim
    chosen = x.index_select(axis, indices.to(x.device).flatten() % x.shape[axis])
    return chosen.reshape(*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])


def unsqueeze(knobs: Attributes, x: Tensor, axes: Tensor) -> Tensor:
    """New axes of size one."""
    rank = x.ndim + axes.numel()
    for axis in sorted(axis % rank for axis in axes.tolist()):
        x = x.unsqueeze(axis)
    return x


def squeeze(knobs: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
    """All axes of size one where none are named."""
    return x.squeeze() if axes is None else x.squeeze(tuple(axes.tolist()))


def reduction(reduce: Callable[[Tensor, Sequence[int], bool], Tensor]) -> Operator:
    """Over the axes named, or all."""

    def reduced(knobs: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
        named = [] if axes is None else axes.tolist()
        if not named and knobs.get("noop_with_empty_axes"):
            return x
        return reduce(x, named or range(x.ndim), bool(knobs.get("keepdims", 1)))

    return reduced


def _padded(knobs: Attributes, x: Tensor, places: int, fill: float) -> tuple[Tensor, Sequence[int]]:
    """x, padded where its sides differ, and the padding that is left to do."""
    auto = knobs.get("auto_pad", "NOTSET")
    _refuse(auto not in ("NOTSET", "VALID"), f"auto_pad {auto}")
    pads = knobs.get("pads", [0] * 2 * places)
    if pads[:places] == pads[places:]:
        return x, pads[:places]
    sides = [size for axis in reversed(range(places)) for size in (pads[axis], pads[places + axis])]
    return F.pad(x, sides, value=fill), [0] * places


def _refuse(wrong: bool, what: str) -> None:
    if wrong:
        raise ValueError(f"cannot be trained: {what}")


def _unary(function: Callable[[Tensor], Tensor]) -> Operator:
    return lambda knobs, x: function(x)


def _binary(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    return lambda knobs, left, right: function(left, right)


OPERATORS: Final[Mapping[str, Operator]] = {
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "Gemm": gemm,
    "MatMul": _binary(torch.matmul),
    "Add": _binary(torch.add),
    "Sub": _binary(torch.sub),
    "Mul": _binary(torch.mul),
    "Div": _binary(torch.div),
    "Pow": _binary(torch.pow),
    "Relu": _unary(F.relu),
    "LeakyRelu": lambda knobs, x: F.leaky_relu(x, knobs.get("alpha", 0.01)),
    "PRelu": lambda knobs, x, slope: torch.where(x < 0, x * slope, x),
    "Elu": lambda knobs, x: F.elu(x, knobs.get("alpha", 1.0)),
    "Gelu": lambda knobs, x: F.gelu(x, approximate=knobs.get("approximate", "none")),
    "HardSigmoid": lambda knobs, x: torch.clamp(knobs.get("alpha", 0.2) * x + knobs.get("beta", 0.5), 0, 1),
    "HardSwish": _unary(F.hardswish),
    "Sigmoid": _unary(torch.sigmoid),
    "Tanh": _unary(torch.tanh),
    "Erf": _unary(torch.erf),
    "Exp": _unary(torch.exp),
    "Sqrt": _unary(torch.sqrt),
    "Reciprocal": _unary(torch.reciprocal),
    "Neg": _unary(torch.neg),
    "Identity": _unary(lambda x: x),
    "Clip": clip,
    "Softmax": lambda knobs, x: F.softmax(x, knobs.get("axis", -1)),
    "BatchNormalization": batch_normalization,
    "LayerNormalization": layer_normalization,
    "MaxPool": max_pool,
    "AveragePool": average_pool,
    "GlobalAveragePool": _unary(lambda x: x.mean(tuple(range(2, x.ndim)), keepdim=True)),
    "GlobalMaxPool": _unary(lambda x: x.amax(tuple(range(2, x.ndim)), keepdim=True)),
    "ReduceMean": reduction(lambda x, axes, keep: x.mean(tuple(axes), keepdim=keep)),
    "ReduceSum": reduction(lambda x, axes, keep: x.sum(tuple(axes), keepdim=keep)),
    "ReduceMax": reduction(lambda x, axes, keep: x.amax(tuple(axes), keepdim=keep)),
    "ReduceMin": reduction(lambda x, axes, keep: x.amin(tuple(axes), keepdim=keep)),
    "Flatten": flatten,
    "Reshape": reshape,
    "Transpose": lambda knobs, x: x.permute(knobs.get("perm", tuple(reversed(range(x.ndim))))),
    "Concat": lambda knobs, *parts: torch.cat(parts, knobs["axis"]),
    "Split": split,
    "Slice": slice_,
    "Gather": gather,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Expand": lambda knobs, x, shape: x * torch.ones(shape.tolist(), dtype=x.dtype, device=x.device),
    "Shape": lambda knobs, x: torch.tensor(x.shape[knobs.get("start", 0) : knobs.get("end")]),
}
