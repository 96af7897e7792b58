"""From a PyTorch model to the ONNX file that ships, and the proof that they agree."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import onnx
import torch
from torch import nn

from tasks.data.batches import Samples
from tasks.data.dataset import Card
from tasks.export.parity import parity, refuse_difference
from tasks.export.simplify import simplify
from tasks.export.slim import slim
from tasks.export.unsupported import lacking, trace
from tasks.measure.accuracy import logits
from tasks.measure.runtime import answers, open_onnxruntime

OPSET: Final = 20
COLUMNS: Final = (
    "a numeric column is one number of x, a categorical one as many as it has categories, 1 at its own and 0 "
    "elsewhere; a cell without a value is of the category (missing); "
)


def export(model: nn.Module, card: Card, samples: Samples, folder: Path, field: str) -> None:
    """Write `model.onnx` (input `x`, raw float32, any batch; output `logits`) and `deploy.json` into `folder`.

    samples: on which the file must answer as the model does.

    Raises:
        ValueError: the model cannot be exported, or its file answers differently.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.onnx"
    onnx.save(slim(simplify(_trace(model, card, field))), path)
    found = parity(logits(model, samples).numpy(), answers(open_onnxruntime(path), samples))
    refuse_difference(found, f"{field}: the ONNX file")
    write_deploy(folder, card, asdict(found))


def write_deploy(folder: Path, card: Card, compared: Mapping[str, float]) -> None:
    """Write deploy.json: what goes in, what comes out, and how the file compared with its origin."""
    deploy = {**interface(card), "parity": compared}
    (folder / "deploy.json").write_text(json.dumps(deploy, indent=2) + "\n", encoding="utf-8")


def interface(card: Card) -> dict[str, Any]:
    """All that a server needs to take raw rows and to give label names and probabilities (tasks/served.py does)."""
    return {
        "inputs": [{"name": "x", "shape": ["batch", *card.input_shape], "dtype": "float32"}],
        "outputs": [{"name": "logits", "shape": ["batch", len(card.classes)], "dtype": "float32"}],
        "classes": list(card.classes),
        "columns": [column.model_dump() for column in card.columns],
        "preprocessing": f"{COLUMNS if card.columns else ''}x takes raw values, the file normalises them",
        "probabilities": "softmax of logits, in the order of classes",
    }


def _trace(model: nn.Module, card: Card, field: str) -> onnx.ModelProto:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns that torchvision is absent
    example = torch.zeros(2, *card.input_shape)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                model.eval(),
                (example,),
                dynamo=True,
                input_names=["x"],
                output_names=["logits"],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                opset_version=OPSET,
                optimize=True,
                verbose=False,
            )
    except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
        # says in which module, where it is tracing that fails
        trace(model, example, dynamic_batch=True, target="ONNX", field=field)
        raise ValueError(f"{field}: cannot be exported to ONNX: {lacking(error, model, example, 'ONNX')}") from None
    assert program is not None
    return program.model_proto
