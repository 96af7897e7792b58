"""quantize: schemes and calibration."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from tasks.params.retraining import Retraining
from tasks.params.section import Count, NonNegative, Section, Share


class Calibration(Section):
    """How activation ranges are read off `samples` training samples."""

    samples: Count = 512


class MinMax(Calibration):
    method: Literal["min_max"]


class Percentile(Calibration):
    method: Literal["percentile"]
    percentile: Annotated[float, Field(gt=50, le=100)] = 99.99


class Entropy(Calibration):
    method: Literal["entropy"]


class Mse(Calibration):
    method: Literal["mse"]


class Auto(Calibration):
    """For each tensor the one of the others that harms the answers least."""

    method: Literal["auto"]


# on x86 ONNX Runtime has kernels for unsigned ones only: signed ones that one node alone reads it turns into those, and
# what reads or makes the others it runs in float
Activation = Literal["unsigned", "signed"]
CalibrationMethod = Annotated[MinMax | Percentile | Entropy | Mse | Auto, Field(discriminator="method")]


class Scheme(Section):
    """temperature: divide the logits so that the probabilities are calibrated, fitted on the validation split."""

    temperature: bool = False


class Rtn(Section):
    """Each weight to the nearest level."""

    method: Literal["rtn"]


class AdaRound(Section):
    """Each weight up or down, as `steps` of descent on its layer's output over the calibration samples find better."""

    method: Literal["adaround"]
    steps: Count = 1000


class Hqq(Section):
    method: Literal["hqq"]


class Gptq(Section):
    """`damping` is a share of the mean square of the inputs; the largest inputs' weights come first where asked."""

    method: Literal["gptq"]
    samples: Count = 256
    damping: Share = 0.01
    activation_order: bool = True


Rounding = Annotated[Rtn | AdaRound | Hqq | Gptq, Field(discriminator="method")]


def _kind(allowed: object) -> str:
    return "by_budget" if isinstance(allowed, str) else "by_share"


MaxDrop = Annotated[
    Annotated[NonNegative, Tag("by_share")] | Annotated[Literal["budget"], Tag("by_budget")], Discriminator(_kind)
]


class Static(Scheme):
    """What every scheme has whose activations have ranges of their own.

    smooth: how much of a product's difficult input moves into its weights: from none to all; null leaves it out.
    """

    equalise: bool = False
    smooth: Annotated[float, Field(ge=0, le=1)] | None = None
    correct_bias: bool = False
    rounding: Annotated[Rtn | AdaRound, Field(discriminator="method")] = Rtn(method="rtn")
    calibration: CalibrationMethod = Mse(method="mse")


class StaticInt8(Static):
    """8 bits for ONNX Runtime's and OpenVINO's kernels.

    activation: type of the activations' bytes; auto: unsigned, but signed where those are clearly faster here.
    in_float: operations that stay so, each by the name of its output in the pruned file.
    """

    in_float: Annotated[tuple[str, ...], Field(strict=False)] = ()
    portable: bool = True
    portable_samples: Count = 1000
    activation: Activation | Literal["auto"] = "auto"


class Int8(StaticInt8):
    """ladder: of remedies, each tried where the one before lost more than `max_drop`.

    max_drop: budget, against the teacher as the gate judges; or of validation samples the share right in float less the
        share right in integers.
    training: the last rung; null leaves it out.
    """

    scheme: Literal["int8"]
    ladder: bool = True
    max_drop: MaxDrop = "budget"
    training: Retraining | None = Retraining()


class Mixed(StaticInt8):
    """Each layer's weights in `bits` where `max_drop`, as for int8, allows it, in eight elsewhere.

    training: of the whole, after that; null leaves it out.
    """

    scheme: Literal["mixed"]
    bits: Annotated[int, Field(ge=2, le=4)] = 4
    max_drop: MaxDrop = "budget"
    training: Retraining | None = None


class Qat(StaticInt8):
    """Quantization-aware training with weights in `bits`; activations have eight."""

    scheme: Literal["qat"]
    bits: Annotated[int, Field(ge=2, le=8)] = 8
    training: Retraining = Retraining()


class Int8Symmetric(Static):
    """8 bits for TensorRT."""

    scheme: Literal["int8_symmetric"]


class Fp8(Scheme):
    """Weights and inputs of convolutions and products in e4m3, for TensorRT on a GPU that computes in it."""

    scheme: Literal["fp8"]
    calibration: CalibrationMethod = MinMax(method="min_max")


class Int8Dynamic(Scheme):
    scheme: Literal["int8_dynamic"]


class Fp16(Scheme):
    scheme: Literal["fp16"]


class Bf16(Scheme):
    scheme: Literal["bf16"]


class Int4WeightOnly(Scheme):
    """Weights take `bits` each, and two half-precision numbers a group."""

    scheme: Literal["int4_weight_only"]
    rounding: Annotated[Rtn | Hqq | Gptq, Field(discriminator="method")] = Hqq(method="hqq")
    bits: Annotated[int, Field(ge=2, le=4)] = 4
    group_size: Annotated[int, Field(ge=8)] = 32


def _default_scheme(section: object) -> object:
    return {"scheme": "int8", **section} if isinstance(section, dict) else section


Quantize = Annotated[
    Int8 | Int8Dynamic | Int8Symmetric | Mixed | Qat | Fp8 | Fp16 | Bf16 | Int4WeightOnly,
    Field(discriminator="scheme"),
    BeforeValidator(_default_scheme),
]


def stored_type(params: Quantize) -> tuple[str, int]:
    """A type in the scheme's file that not every opset has, and the first that does; none, and 0."""
    if isinstance(params, Fp8):
        return "FLOAT8E4M3FN", 19
    if isinstance(params, Mixed | Qat) and params.bits <= 4:
        return "INT4", 21
    return "", 0
