"""PyTorch's ExportedProgram, as a .pt2 file without pickle."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from tasks.export.unsupported import trace
from tasks.measure.runtime import Answers, Call

PLAIN: Final = ("weight_", "tensor_")  # payloads of plain bytes


def write(model: nn.Module, path: Path, shape: tuple[int, ...], *, dynamic_batch: bool, field: str) -> None:
    """Trace the model and save the graph with its weights.

    Raises:
        ValueError: it cannot be traced, or its file would need pickle.
    """
    example = torch.zeros(2 if dynamic_batch else 1, *shape)
    program = trace(model, example, dynamic_batch=dynamic_batch, target="an ExportedProgram", field=field)
    program.example_inputs = None  # the only part of a plain model's file that is pickled
    torch.export.save(program, path)
    refuse_pickle(path)


def read(path: Path) -> Call:
    """The file's answers, by PyTorch.

    Raises:
        ValueError: there is pickle in the file.
    """
    refuse_pickle(path)
    model = torch.export.load(path).module()

    def call(inputs: npt.NDArray[np.float32]) -> Answers:
        with torch.no_grad():
            answers: Answers = model(torch.from_numpy(inputs)).numpy()
        return answers

    return call


def refuse_pickle(path: Path) -> None:
    """Raise ValueError where torch.export.load would unpickle a part of the file, which can run code.

    Sample inputs and objects among the constants are pickled, and all of a file from before PyTorch 2.8.
    """
    with zipfile.ZipFile(path) as archive:
        for item in archive.infolist():
            pickled = item.filename.endswith(".pt") and item.file_size > 0
            if item.filename.endswith("_config.json"):
                entries = json.loads(archive.read(item))["config"].values()
                pickled = any(entry["use_pickle"] or not entry["path_name"].startswith(PLAIN) for entry in entries)
            if pickled or "/" not in item.filename:
                raise ValueError(f"{path}: {item.filename} holds pickle, which can run code; export the model anew")
