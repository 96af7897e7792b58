"""evaluate: further files of the final model, and what the devices can do that it is for."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from tasks.params.section import Count, Positive, Section

ExportFormat = Literal["onnx", "exported_program", "openvino", "executorch"]
Runtime = Literal["onnxruntime", "openvino"]
ProfileName = Annotated[str, StringConstraints(pattern=r"^[\w.-]+$")]


class Exports(Section):
    """opset, of the onnx format; dynamic_batch false: the files take one sample at a time, as .pte always does."""

    formats: list[ExportFormat] = []
    opset: Annotated[int, Field(ge=15, le=23)] = 20
    dynamic_batch: bool = True


class Profile(Section):
    """A device. None leaves a figure unlimited; of runtimes, those that are installed are tried."""

    threads: Count | Literal["all"] = 1
    runtimes: Annotated[list[Runtime], Field(min_length=1)] = ["onnxruntime", "openvino"]
    fastest: Literal["latency", "throughput"] = "latency"
    integer_only: bool = False
    max_size_bytes: Count | None = None
    max_latency_ms: Positive | None = None


PROFILES: dict[ProfileName, Profile] = {
    "cpu-1t": Profile(),
    "cpu-all": Profile(threads="all"),
    "int8-only": Profile(integer_only=True),
}
