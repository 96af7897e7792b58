"""From a PyTorch model to the ONNX file that ships, and the proof that they agree."""

from __future__ import annotations

import json
import logging
import re
import warnings
from pathlib import Path
from typing import Final

import numpy as np
import onnx
import torch
from torch import Tensor, nn

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
        reason = _unsupported(error, model, example) or " ".join(str(error.__cause__ or error).split())[:300]
        raise ValueError(f"{field}: cannot be exported to ONNX: {reason}") from None
    assert program is not None
    return program.model_proto


def _unsupported(error: BaseException, model: nn.Module, example: Tensor) -> str | None:
    """The operation that ONNX lacks and the modules that call it; None where the failure is of another kind."""
    cause: BaseException | None = error
    found = None
    while cause and not found:
        found = re.search(r"No ONNX function found for <OpOverload\(op='\w+\.(\w+)'", str(cause))
        cause = cause.__cause__
    if not found:
        return None
    operation = found[1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nodes = torch.export.export(model, (example,)).graph.nodes
    # the exporter takes calls apart before it looks: aten.special_bessel_j0 has become prims.bessel_j0
    callers = [node for node in nodes if node.op == "call_function" and operation in str(node.target)]
    stacks = [list(node.meta.get("nn_module_stack", {}).values()) for node in callers]
    paths = dict.fromkeys(stack[-1][0] or "the model itself" for stack in stacks if stack)
    where = f", which {', '.join(paths)} calls" if paths else ""
    return f"it has no {operation}{where}; put operations in its place that ONNX has, such as those of torch.nn"
