"""quantize: the pruned student's ONNX file in eight bits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from tasks.data.batches import in_order
from tasks.data.splits import Splits, load_splits
from tasks.export.onnx import write_deploy
from tasks.export.slim import slim
from tasks.files import Files
from tasks.measure.integers import integer_op_share, operations
from tasks.measure.runtime import open_session, run
from tasks.params import Quantize
from tasks.quantize.calibration import chooser, observe
from tasks.quantize.int8 import Weights
from tasks.quantize.int8 import quantize as to_int8
from tasks.quantize.portability import portable


def quantize(params: Quantize, seed: int, files: Files) -> dict[str, float]:
    """Read activation ranges off training samples, quantize, and compare with the float file."""
    data = load_splits(files.reads)
    source = files.reads["pruned"] / "model.onnx"
    model = onnx.shape_inference.infer_shapes(onnx.load(source), strict_mode=True, data_prop=True)
    quantized, facts = _int8(model, params, data, seed)
    folder = files.writes["quantized"]
    folder.mkdir()
    path = folder / "model.onnx"
    onnx.save(slim(quantized), path)
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


def _int8(model: onnx.ModelProto, params: Quantize, data: Splits, seed: int) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """The model in integers, and what quantization.json says of how it came about."""
    samples = data.coreset.first(params.calibration.samples, seed)

    def batches() -> Iterator[npt.NDArray[np.float32]]:
        return (inputs.numpy() for inputs, _ in in_order(samples, batch_size=128))

    choose = chooser(params.calibration.method, params.calibration.model_dump(exclude={"method", "samples"}))
    ranges = {name: choose(histogram) for name, histogram in observe(model, batches).items()}

    def build(weights: Weights) -> onnx.ModelProto:
        return to_int8(model, ranges, weights)

    if not params.portable:
        return build("signed"), {}
    quantized, facts = portable(build, data.validation.first(params.portable_samples, seed))
    return quantized, {"portability": facts}


def _emulated(facts: dict[str, Any]) -> dict[str, float]:
    """Accuracy of the file that ships on other processors, where it was emulated."""
    if "portability" not in facts:
        return {}
    portability = facts["portability"]
    return {f"accuracy_{name}": value for name, value in portability["accuracy"][portability["weights"]].items()}
