"""OpenVINO's own files: the graph as .xml, the weights beside it as .bin."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from tasks.export.unsupported import lacking


def write(
    source: Path, model: nn.Module, path: Path, shape: tuple[int, ...], *, dynamic_batch: bool, field: str
) -> None:
    """Convert the ONNX file at `source`, float or integer, without changing a bit of its weights.

    model: behind the file, to say which of its modules needs what OpenVINO lacks.

    Raises:
        ValueError: OpenVINO lacks an operation.
    """
    import openvino

    try:
        graph = openvino.Core().read_model(str(source))
    except RuntimeError as error:
        reason = lacking(error, model, torch.zeros(2, *shape), "OpenVINO")
        raise ValueError(f"{field}: cannot be converted to OpenVINO: {reason}") from None
    if not dynamic_batch:
        graph.reshape([1, *shape])
    openvino.save_model(graph, str(path), compress_to_fp16=False)
