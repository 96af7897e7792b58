"""Static INT8: activations per tensor and weights per channel, as Quantize/DequantizeLinear in the ONNX file."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final, Literal

import numpy as np
import onnx
from onnxruntime.quantization import QuantType
from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.registry import QDQRegistry

from tasks.params import Activation
from tasks.quantize.borders import fold_normalisation_, leave_logits_
from tasks.quantize.calibration import Range

# signed bytes; signed in seven bits, so that two products fit 16 bits on any processor; unsigned, widened before they
# are multiplied
Weights = Literal["signed", "reduced", "unsigned"]
# beyond ONNX Runtime's own list; sums behind a convolution, so that OpenVINO too joins the last one with it
KINDS: Final = (*QDQRegistry, "GlobalAveragePool", "Add")


def quantize(
    model: onnx.ModelProto,
    ranges: Mapping[str, Range],
    weights: Weights = "signed",
    *,
    activation: Activation = "unsigned",
    in_float: Collection[str] = (),
) -> onnx.ModelProto:
    """The model with every operation that ONNX Runtime has in integers fed by 8-bit tensors.

    ranges: low and high of each float tensor, by its name in the graph. in_float: names of operations left as they are.

    Raises:
        ValueError: `in_float` names no operation of the model.
    """
    names = [node.name for node in model.graph.node]
    if unknown := sorted(set(in_float) - set(names)):
        raise ValueError(f"quantize.in_float: no operation is called '{unknown[0]}'; there are {', '.join(names)}")
    data = {name: TensorData(lowest=np.float32(low), highest=np.float32(high)) for name, (low, high) in ranges.items()}
    quantizer = QDQQuantizer(
        model,
        per_channel=True,
        reduce_range=weights == "reduced",
        weight_qType=QuantType.QUInt8 if weights == "unsigned" else QuantType.QInt8,
        activation_qType=QuantType.QInt8 if activation == "signed" else QuantType.QUInt8,
        tensors_range=TensorsData(CalibrationMethod.MinMax, data),
        nodes_to_quantize=[],
        nodes_to_exclude=sorted({*in_float, *_other_sums(model)}),
        op_types_to_quantize=list(KINDS),
        extra_options={"WeightSymmetric": True},  # one zero point for all channels, as the runtime demands
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()  # it appends what it adds, which ONNX's own checker refuses
    quantized: onnx.ModelProto = quantizer.model.model
    fold_normalisation_(quantized)
    leave_logits_(quantized)
    return quantized


def _other_sums(model: onnx.ModelProto) -> list[str]:
    """Sums that read no convolution, as in a transformer's residual stream, or a constant: 8 bits would be too few."""
    held = {item.name for item in model.graph.initializer}
    makers = {name: node for node in model.graph.node for name in node.output}

    def joins(name: str) -> bool:
        made = makers.get(name)
        while made is not None and made.op_type in ("Relu", "Clip"):
            made = makers.get(made.input[0])
        return made is not None and made.op_type == "Conv"

    sums = [node for node in model.graph.node if node.op_type == "Add"]
    return [node.name for node in sums if held.intersection(node.input) or not any(map(joins, node.input))]
