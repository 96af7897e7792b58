"""quantize: schemes and calibration."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tasks.params.section import Count, Section


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


class Quantize(Section):
    scheme: Literal["int8"] = "int8"
    portable: bool = True
    portable_samples: Count = 1000
    calibration: Annotated[MinMax | Percentile | Entropy | Mse, Field(discriminator="method")] = Mse(method="mse")
