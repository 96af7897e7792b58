"""quantize: the pruned student's ONNX file in fewer bits."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import onnx
import torch
from safetensors.torch import save_file

from tasks import checkpoint
from tasks.data.splits import load_splits
from tasks.export.onnx import write_deploy
from tasks.files import Files
from tasks.measure.budget import Limits
from tasks.measure.integers import integer_op_share, operations
from tasks.measure.runtime import open_session, run
from tasks.params import Int8, Quantize, StaticInt8
from tasks.quantize.judge import shipped
from tasks.quantize.ladder import Rung, climb
from tasks.quantize.retrain import Coach
from tasks.quantize.runnable import prove_runnable, runnable
from tasks.quantize.schemes import SCHEMES, Made
from tasks.quantize.speed import Faster, settled
from tasks.quantize.temperature import calibrate_
from tasks.quantize.trained import TRAINED
from tasks.training.curves import write_curves, write_rows
from tasks.training.scratch import scratch_of

log = logging.getLogger(__name__)
FOR_GPUS: Final = frozenset({"int8_symmetric", "fp8"})


def quantize(
    params: Quantize, max_accuracy_drop: float, max_class_recall_drop: float | None, seed: int, files: Files
) -> dict[str, float]:
    """Make the float file smaller by the scheme, and compare the two."""
    data = load_splits(files.reads)
    source = files.reads["pruned"] / "model.onnx"
    model = _named(onnx.shape_inference.infer_shapes(onnx.load(source), strict_mode=True, data_prop=True))
    coach = Coach(
        lambda name: checkpoint.load(files.reads[name], data.card),
        data,
        seed,
        scratch_of(files.scratch, "quantize", data.card.sha256),
    )
    with runnable(params.scheme):
        timed = list[Faster]()
        if isinstance(params, StaticInt8):
            params, timed = settled(model, params, data, seed)
        (quantized, facts), rungs = _made(model, params, Limits(max_accuracy_drop, max_class_recall_drop), coach)
    if timed:
        facts["activation"]["measured"] = True
    folder = files.writes["quantized"]
    folder.mkdir()
    path = folder / "model.onnx"
    onnx.save(shipped(quantized), path)
    prove_runnable(path, params.scheme)
    if params.temperature:
        facts["temperature"] = calibrate_(path, data.validation)
    targets = data.validation.targets(slice(None)).numpy()
    before, after = (run(open_session(file), data.validation).argmax(1) for file in (source, path))
    agreement = float((before == after).mean())
    write_deploy(folder, data.card, {"label_agreement": agreement, "samples": len(targets)})
    found = operations(path)
    facts = {"scheme": params.scheme, **facts, "operations": [asdict(operation) for operation in found]}
    (folder / "quantization.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    _write_training(coach, facts, folder)
    files.writes["diary"].mkdir(parents=True, exist_ok=True)
    write_rows(rungs, Rung, files.writes["diary"] / "ladder.csv")
    write_rows(timed, Faster, files.writes["diary"] / "activations.csv")
    return {
        "accuracy": float((after == targets).mean()),
        "accuracy_float": float((before == targets).mean()),
        "agreement_with_float": agreement,
        "size_bytes": path.stat().st_size,
        "size_bytes_float": source.stat().st_size,
        "integer_op_share": integer_op_share(found),
        **_emulated(facts),
    }


def _named(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same, each operation called as its output: files have no other names for them."""
    for node in model.graph.node:
        node.name = next(filter(None, node.output))  # an LSTM may have its last state alone
    return model


def _made(model: onnx.ModelProto, params: Quantize, limits: Limits, coach: Coach) -> tuple[Made, list[Rung]]:
    """The file with its facts, and the rungs that led to it."""
    if params.scheme in FOR_GPUS and not torch.cuda.is_available():
        log.warning(
            "quantize.scheme %s is for GPUs and none is here: its file is checked on the CPU only", params.scheme
        )
    if params.scheme in TRAINED:
        return TRAINED[params.scheme](model, params, limits, coach), []
    if not (isinstance(params, Int8) and params.ladder):
        return SCHEMES[params.scheme](model, params, coach.data, coach.seed), []
    (made, facts), chosen, rungs = climb(model, params, limits, coach)
    # no output may carry times: with them the diary lies beside
    rows = [{key: value for key, value in asdict(rung).items() if key != "seconds"} for rung in rungs]
    ladder: dict[str, Any] = {"max_drop": params.max_drop, "chosen": chosen.rung, "rungs": rows}
    if params.max_drop == "budget":
        ladder["limits"] = asdict(limits)
    return (made, {**facts, "ladder": ladder}), rungs


def _write_training(coach: Coach, facts: dict[str, Any], folder: Path) -> None:
    """Curves and learned floats, where what ships was trained: from the floats training can go on."""
    if "training" in facts:
        write_curves(coach.history, folder / "training.csv")
        save_file({name: t.cpu().contiguous() for name, t in coach.learned.items()}, folder / "trained.safetensors")


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
