"""quantize: the pruned student's ONNX file in fewer bits."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import onnx

from tasks.data.splits import load_splits
from tasks.export.onnx import write_deploy
from tasks.export.slim import slim
from tasks.files import Files
from tasks.measure.integers import integer_op_share, operations
from tasks.measure.runtime import open_session, run
from tasks.params import Quantize
from tasks.quantize.runnable import prove_runnable
from tasks.quantize.schemes import SCHEMES


def quantize(params: Quantize, seed: int, files: Files) -> dict[str, float]:
    """Make the float file smaller by the scheme, and compare the two."""
    data = load_splits(files.reads)
    source = files.reads["pruned"] / "model.onnx"
    model = onnx.shape_inference.infer_shapes(onnx.load(source), strict_mode=True, data_prop=True)
    quantized, facts = SCHEMES[params.scheme](model, params, data, seed)
    folder = files.writes["quantized"]
    folder.mkdir()
    path = folder / "model.onnx"
    onnx.save(slim(quantized), path)
    prove_runnable(path, params.scheme)
    targets = data.validation.targets(slice(None)).numpy()
    before, after = (run(open_session(file), data.validation).argmax(1) for file in (source, path))
    agreement = float((before == after).mean())
    write_deploy(folder, data.card, {"label_agreement": agreement, "samples": len(targets)})
    found = operations(path)
    facts = {"scheme": params.scheme, **facts, "operations": [asdict(operation) for operation in found]}
    (folder / "quantization.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return {
        "accuracy": float((after == targets).mean()),
        "accuracy_float": float((before == targets).mean()),
        "agreement_with_float": agreement,
        "size_bytes": path.stat().st_size,
        "size_bytes_float": source.stat().st_size,
        "integer_op_share": integer_op_share(found),
        **_emulated(facts),
    }


def _emulated(facts: dict[str, Any]) -> dict[str, float]:
    """Accuracy of the file that ships on either kind of processor, on so many of the validation samples."""
    if "portability" not in facts:
        return {}
    portability = facts["portability"]
    accuracy = portability["accuracy"][portability["weights"]]
    return {
        **{f"accuracy_{name}": value for name, value in accuracy.items()},
        "emulated_samples": portability["samples"],
    }
