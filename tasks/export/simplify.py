"""The float graph in fewer operations, and in such as runtimes have in integers; it computes the same."""

from __future__ import annotations

from typing import Any, Final

import onnx
from onnxscript import ir
from onnxscript.rewriter import pattern, rewrite


def simplify(model: onnx.ModelProto) -> onnx.ModelProto:
    """Factors join the product before them, reductions of all places become pooling, maxima of maxima one maximum.

    The last bits of answers may change, as a product by a factor is rounded elsewhere.
    """
    return rewrite(onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True), RULES)


class _ScaledProduct(pattern.RewriteRuleClassBase):  # type: ignore[misc]
    """Gemm, then one factor for all outputs: weight and bias take it up."""

    def pattern(self, op: Any, x: Any, weight: Any, bias: Any, factor: Any) -> Any:
        return op.Mul(op.Gemm(x, weight, bias, _allow_other_attributes=True, _outputs=["product"]), factor)

    def check(self, context: Any, weight: ir.Value, bias: ir.Value, factor: ir.Value, **_: Any) -> bool:
        known = [value.const_value for value in (weight, bias, factor)]
        return all(constant is not None for constant in known) and known[-1].size == 1

    def rewrite(self, op: Any, x: Any, weight: Any, bias: Any, factor: Any, product: Any) -> Any:
        by = factor.const_value.numpy().ravel()[0]
        scaled = [
            op.initializer(ir.tensor(value.const_value.numpy() * by), f"{value.name}.scaled")
            for value in (weight, bias)
        ]
        return op.Gemm(x, *scaled, **product.producer().attributes)


class _Pooled(pattern.RewriteRuleClassBase):  # type: ignore[misc]
    """A mean or a maximum over all places of a picture, whose number is fixed; over one axis it may be a norm's."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self._kind = kind

    def pattern(self, op: Any, x: Any, axes: Any) -> Any:
        return getattr(op, self._kind)(x, axes, _allow_other_attributes=True, _outputs=["reduced"])

    def check(self, context: Any, x: ir.Value, axes: ir.Value, **_: Any) -> bool:
        if x.shape is None or axes.const_value is None:
            return False
        places = [*range(2, len(x.shape))]
        over = sorted(axis % len(x.shape) for axis in axes.const_value.numpy().tolist())
        return len(places) > 1 and over == places and all(isinstance(x.shape[place], int) for place in places)

    def rewrite(self, op: Any, x: ir.Value, axes: Any, reduced: ir.Value) -> Any:
        assert x.shape is not None
        pooled = op.GlobalAveragePool(x) if self._kind == "ReduceMean" else op.MaxPool(x, kernel_shape=[*x.shape][2:])
        keeps = reduced.producer().attributes.get("keepdims")
        return pooled if keeps is None or keeps.as_int() else op.Flatten(pooled)


class _MaximaOfMaxima(pattern.RewriteRuleClassBase):  # type: ignore[misc]
    """A maximum over all places that a pooling left: one over those that it covered."""

    def pattern(self, op: Any, x: Any) -> Any:
        inner = op.MaxPool(x, _allow_other_attributes=True, _outputs=["inner"])
        return op.MaxPool(inner, _allow_other_attributes=True, _outputs=["whole"])

    def check(self, context: Any, inner: ir.Value, whole: ir.Value, **_: Any) -> bool:
        over, then = (_window(value) for value in (inner, whole))
        if over is None or then is None or inner.shape is None:
            return False
        gaps = any(step > size for size, step in zip(*over, strict=True))
        return not gaps and [*inner.shape][2:] == then[0]

    def rewrite(self, op: Any, x: Any, inner: ir.Value, whole: ir.Value) -> Any:
        (sizes, steps), (counts, _) = _window(inner) or ([], []), _window(whole) or ([], [])
        kernel = [size + step * (count - 1) for size, step, count in zip(sizes, steps, counts, strict=True)]
        return op.MaxPool(x, kernel_shape=kernel, strides=kernel)


def _window(pooled: ir.Value) -> tuple[list[int], list[int]] | None:
    """Kernel and strides of a pooling that neither pads nor dilates nor rounds up."""
    attributes = pooled.producer().attributes
    sizes = [*attributes["kernel_shape"].as_ints()]

    def given(name: str, value: int) -> list[int]:
        return [*attributes[name].as_ints()] if name in attributes else [value] * len(sizes)

    up = "ceil_mode" in attributes and attributes["ceil_mode"].as_int()
    padded = any(given("pads", 0)) or ("auto_pad" in attributes and attributes["auto_pad"].as_string() != "NOTSET")
    return None if up or padded or set(given("dilations", 1)) != {1} else (sizes, given("strides", 1))


RULES: Final = pattern.RewriteRuleSet(
    [_ScaledProduct.rule(), _Pooled.rule("ReduceMean"), _Pooled.rule("ReduceMax"), _MaximaOfMaxima.rule()], commute=True
)
