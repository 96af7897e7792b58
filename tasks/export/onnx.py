"""From a PyTorch model to the ONNX file that ships, and the proof that they agree."""

from __future__ import annotations

import json
import logging
import warnings
from pathlib import Path
from typing import Final

import numpy as np
import onnx
import torch
from torch import nn

from tasks.data.batches import Samples
from tasks.data.dataset import Card
from tasks.export.slim import slim
from tasks.measure.accuracy import logits
from tasks.measure.runtime import open_session, run

OPSET: Final = 20
TOLERANCE: Final = 1e-3


def export(model: nn.Module, card: Card, samples: Samples, folder: Path, field: str) -> None:
    """Write `model.onnx` (input `x`, raw float32, any batch; output `logits`) and `deploy.json` into `folder`.

    samples: on which the file must answer as the model does.

    Raises:
        ValueError: the model cannot be exported, or its file answers differently.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.onnx"
    onnx.save(slim(_trace(model, card, field)), path)
    expected = logits(model, samples).numpy()
    answers = run(open_session(path), samples)
    difference = float(np.abs(answers - expected).max()) / max(1.0, float(np.abs(expected).max()))
    if difference > TOLERANCE:
        raise ValueError(f"{field}: the ONNX file differs from the model by {difference:.2g} of its largest logit")
    agreement = float((answers.argmax(1) == expected.argmax(1)).mean())
    write_deploy(
        folder, card, {"max_relative_difference": difference, "label_agreement": agreement, "samples": len(samples)}
    )


def write_deploy(folder: Path, card: Card, parity: dict[str, float]) -> None:
    """Write deploy.json: what goes in, what comes out, and how the file compared with its origin."""
    deploy = {
        "inputs": [{"name": "x", "shape": ["batch", *card.input_shape], "dtype": "float32"}],
        "outputs": [{"name": "logits", "shape": ["batch", len(card.classes)], "dtype": "float32"}],
        "classes": list(card.classes),
        "columns": [column.model_dump() for column in card.columns],
        "preprocessing": "none: x takes raw values, the file normalises them",
        "parity": parity,
    }
    (folder / "deploy.json").write_text(json.dumps(deploy, indent=2) + "\n", encoding="utf-8")


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
        reason = " ".join(str(error.__cause__ or error).split())[:300]
        raise ValueError(f"{field}: cannot be exported to ONNX: {reason}") from None
    assert program is not None
    return program.model_proto
