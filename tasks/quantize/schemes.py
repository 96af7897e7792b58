"""Ways to make a float file smaller, by the names that `quantize.scheme` gives them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, Protocol

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.onnx_model import ONNXModel
from onnxruntime.quantization.quant_utils import add_pre_process_metadata
from onnxruntime.transformers.float16 import convert_float_to_float16

from tasks.data.batches import in_order
from tasks.data.splits import Splits
from tasks.params import (
    Activation,
    Bf16,
    Fp8,
    Fp16,
    Gptq,
    Int4WeightOnly,
    Int8,
    Int8Dynamic,
    Int8Symmetric,
    Static,
    StaticInt8,
)
from tasks.quantize.auto import choose_ranges
from tasks.quantize.bfloat16 import with_bfloat16_weights
from tasks.quantize.calibration import Range, chooser, mirrored, observe
from tasks.quantize.gptq import GptqOrRtn
from tasks.quantize.int8 import Weights
from tasks.quantize.int8 import quantize as to_int8
from tasks.quantize.layers import grams, layers
from tasks.quantize.portability import portable
from tasks.quantize.prepare import Batches, evened, rounder
from tasks.quantize.symmetric import LARGEST, quantize_symmetric
from tasks.quantize.weights import WEIGHTS, quantize_weights

Made = tuple[onnx.ModelProto, dict[str, Any]]  # and what quantization.json says of how it came about
BATCH: Final = 128
# ONNX Runtime has no kernel for signed activations by unsigned weights
REMEDIES: Final[Mapping[Activation, tuple[Weights, ...]]] = {
    "unsigned": ("reduced", "unsigned"),
    "signed": ("reduced",),
}
DYNAMIC: Final = ["MatMul", "Gemm", "LSTM", "Attention"]


class Build(Protocol):
    """Makes the 8-bit file with one kind of weights, all operations in integers but those named `in_float`."""

    def __call__(
        self, weights: Weights, *, activation: Activation = "unsigned", in_float: Collection[str] = ()
    ) -> onnx.ModelProto:
        """The same each time."""
        ...


def prepared(model: onnx.ModelProto, params: StaticInt8, data: Splits, seed: int) -> tuple[Build, dict[str, Any]]:
    """What is done once for all kinds of weights: ranges are read off training samples.

    Returns:
        What builds the file, and facts, to which building adds.
    """
    batches = _batches(data, params.calibration.samples, seed)
    source, facts = evened(model, params, batches)
    ranges = _ranges(source, params, batches, facts)
    rounded = rounder(source, params, batches, facts)

    def build(
        weights: Weights, *, activation: Activation = "unsigned", in_float: Collection[str] = ()
    ) -> onnx.ModelProto:
        kept = {*in_float, *params.in_float}
        rounded_weights = rounded(64 if weights == "reduced" else 127)
        return to_int8(rounded_weights, ranges, weights, activation=activation, in_float=kept)

    return build, facts


def int8(model: onnx.ModelProto, params: Int8, data: Splits, seed: int) -> Made:
    """Weights and activations, for ONNX Runtime's kernels."""
    build, facts = prepared(model, params, data, seed)

    activation = activations(params)
    facts["activation"] = {"type": activation}
    if not params.portable:
        return build("signed", activation=activation), facts
    samples = data.validation.first(params.portable_samples, seed)
    quantized, found = portable(partial(build, activation=activation), samples, REMEDIES[activation])
    return quantized, facts | {"portability": found}


def activations(params: StaticInt8) -> Activation:
    """Their type; unsigned where speed has not decided, as it does once for the stage (`speed.settled`)."""
    return "signed" if params.activation == "signed" else "unsigned"


def int8_symmetric(model: onnx.ModelProto, params: Int8Symmetric, data: Splits, seed: int) -> Made:
    """Weights and inputs of convolutions and products without zero points, for TensorRT."""
    batches = _batches(data, params.calibration.samples, seed)
    source, facts = evened(model, params, batches)
    ranges = _ranges(source, params, batches, facts)
    return quantize_symmetric(rounder(source, params, batches, facts)(LARGEST), ranges), facts


def int8_dynamic(model: onnx.ModelProto, params: Int8Dynamic, data: Splits, seed: int) -> Made:
    """Weights of products and LSTMs; activations get their range at each call. Convolutions stay in float."""
    if not any(node.op_type in DYNAMIC for node in model.graph.node):
        raise ValueError(f"quantize.scheme int8_dynamic: the model has none of {', '.join(DYNAMIC)}; int8 would do")
    prepared = onnx.ModelProto()
    prepared.CopyFrom(model)
    add_pre_process_metadata(prepared)  # the export has done what it would advise
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        # seven bits cannot saturate on any processor
        quantize_dynamic(prepared, path, DYNAMIC, per_channel=True, reduce_range=True, weight_type=QuantType.QInt8)
        return onnx.load(path), {}


def fp8(model: onnx.ModelProto, params: Fp8, data: Splits, seed: int) -> Made:
    """The same places in 8-bit floats, whose steps grow with the number."""
    facts: dict[str, Any] = {}
    ranges = _ranges(model, params, _batches(data, params.calibration.samples, seed), facts)
    return quantize_symmetric(model, ranges, "fp8"), facts


def fp16(model: onnx.ModelProto, params: Fp16, data: Splits, seed: int) -> Made:
    """Half precision inside, float32 outside; half the bytes, faster only where the hardware computes in halves."""
    halved = ONNXModel(convert_float_to_float16(model, keep_io_types=True))
    halved.topological_sort()
    return halved.model, {}


def bf16(model: onnx.ModelProto, params: Bf16, data: Splits, seed: int) -> Made:
    """Weights in half the bytes on disk, float in memory."""
    return with_bfloat16_weights(model), {}


def int4_weight_only(model: onnx.ModelProto, params: Int4WeightOnly, data: Splits, seed: int) -> Made:
    """Weights in four bits or fewer on disk, float in memory."""
    rounding = params.rounding
    if isinstance(rounding, Gptq):
        observed = grams(model, layers(model.graph), _batches(data, rounding.samples, seed))
        knobs = rounding.model_dump(exclude={"method", "samples"})
        gptq = GptqOrRtn(observed, params.bits, **knobs)
        return quantize_weights(model, gptq, group_size=params.group_size), {"gptq": gptq.facts()}
    nearest = WEIGHTS[rounding.method]
    made = quantize_weights(
        model, lambda layer, groups: nearest(groups, bits=params.bits), group_size=params.group_size
    )
    return made, {}


def _ranges(model: onnx.ModelProto, params: Static | Fp8, batches: Batches, facts: dict[str, Any]) -> dict[str, Range]:
    """Of every tensor; how they were chosen joins the facts where it differs from tensor to tensor."""
    histograms = observe(model, batches)
    if isinstance(params, Int8Symmetric | Fp8):
        histograms = {name: mirrored(histogram) for name, histogram in histograms.items()}
    if params.calibration.method == "auto":
        ranges, methods = choose_ranges(model, histograms, batches)
        facts["calibration"] = dict(Counter(methods.values()))
        return ranges
    choose = chooser(params.calibration.method, params.calibration.model_dump(exclude={"method", "samples"}))
    return {name: choose(histogram) for name, histogram in histograms.items()}


def _batches(data: Splits, count: int, seed: int) -> Batches:
    """Inputs of `count` samples of the coreset, the same at each call."""
    samples = data.coreset.first(count, seed)
    if not len(samples):
        raise ValueError("quantize.calibration has no samples: the coreset is empty; a larger one would do")
    return lambda: (inputs.numpy() for inputs, _ in in_order(samples, batch_size=BATCH))


SCHEMES: Final[Mapping[str, Callable[..., Made]]] = {
    "int8": int8,
    "int8_dynamic": int8_dynamic,
    "int8_symmetric": int8_symmetric,
    "fp8": fp8,
    "fp16": fp16,
    "bf16": bf16,
    "int4_weight_only": int4_weight_only,
}
