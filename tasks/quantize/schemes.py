"""Ways to make a float file smaller, by the names that `quantize.scheme` gives them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.onnx_model import ONNXModel
from onnxruntime.quantization.quant_utils import add_pre_process_metadata
from onnxruntime.transformers.float16 import convert_float_to_float16

from tasks.data.batches import in_order
from tasks.data.splits import Splits
from tasks.params import Fp16, Gptq, Int4WeightOnly, Int8, Int8Dynamic
from tasks.quantize.auto import choose_ranges
from tasks.quantize.calibration import chooser, observe
from tasks.quantize.equalise import correct_biases, equalise
from tasks.quantize.gptq import GptqOrRtn
from tasks.quantize.int8 import Weights
from tasks.quantize.int8 import quantize as to_int8
from tasks.quantize.layers import grams, layers
from tasks.quantize.portability import portable
from tasks.quantize.weights import WEIGHTS, quantize_weights

Made = tuple[onnx.ModelProto, dict[str, Any]]  # and what quantization.json says of how it came about
BATCH: Final = 128
DYNAMIC: Final = ["MatMul", "Gemm", "LSTM", "Attention"]


def int8(model: onnx.ModelProto, params: Int8, data: Splits, seed: int) -> Made:
    """Weights and activations, whose ranges are read off training samples beforehand."""
    batches = _batches(data, params.calibration.samples, seed)
    facts: dict[str, Any] = {}
    if params.equalise:
        model, facts["equalised_pairs"] = equalise(model)
    histograms = observe(model, batches)
    if params.calibration.method == "auto":
        ranges, methods = choose_ranges(model, histograms, batches)
        facts["calibration"] = dict(Counter(methods.values()))
    else:
        choose = chooser(params.calibration.method, params.calibration.model_dump(exclude={"method", "samples"}))
        ranges = {name: choose(histogram) for name, histogram in histograms.items()}

    def build(weights: Weights) -> onnx.ModelProto:
        source = model
        if params.correct_bias:
            largest = 64 if weights == "reduced" else 127
            source, facts["corrected_layers"] = correct_biases(model, batches, largest=largest)
        return to_int8(source, ranges, weights)

    if not params.portable:
        return build("signed"), facts
    quantized, facts["portability"] = portable(build, data.validation.first(params.portable_samples, seed))
    return quantized, facts


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


def fp16(model: onnx.ModelProto, params: Fp16, data: Splits, seed: int) -> Made:
    """Half precision inside, float32 outside; half the bytes, faster only where the hardware computes in halves."""
    halved = ONNXModel(convert_float_to_float16(model, keep_io_types=True))
    halved.topological_sort()
    return halved.model, {}


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


def _batches(data: Splits, count: int, seed: int) -> Callable[[], Iterator[npt.NDArray[np.float32]]]:
    """Inputs of `count` samples of the coreset, the same at each call."""
    samples = data.coreset.first(count, seed)
    if not len(samples):
        raise ValueError("quantize.calibration has no samples: the coreset is empty; a larger one would do")
    return lambda: (inputs.numpy() for inputs, _ in in_order(samples, batch_size=BATCH))


SCHEMES: Final[Mapping[str, Callable[..., Made]]] = {
    "int8": int8,
    "int8_dynamic": int8_dynamic,
    "fp16": fp16,
    "int4_weight_only": int4_weight_only,
}
