"""What a smaller model still costs, as a share of the one it was cut from: counted, or measured on its file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from torch import nn

from tasks.data.batches import Samples
from tasks.data.dataset import Card
from tasks.export.onnx import export
from tasks.measure.runtime import Call, open_onnxruntime
from tasks.measure.size import macs, parameters
from tasks.measure.timing import interleaved
from tasks.prune.evidence import Evidence
from tasks.prune.graph import layers
from tasks.prune.operations import OperationTable, operation_table

Measure = Callable[[nn.Module], float]
COUNTED: Final = ("macs", "parameters")
ROUNDS, RUNS = 20, 20
FIELD: Final = "distill.model"


def share_left(measure: str, dense: nn.Module, evidence: Evidence) -> Measure:
    """The function that says of a model by how much it is smaller than `dense` is now; 1 is no smaller.

    measure: a name of MEASURES. bytes and latency are those of the ONNX file, in ONNX Runtime at batch 1.

    Raises:
        ValueError: bytes or latency without the data's card and samples, or of a model that cannot be exported.
    """
    return MEASURES[measure](dense, evidence)


def deployed(model: nn.Module, card: Card, samples: Samples) -> Call:
    """The model as ONNX Runtime will run it."""
    with TemporaryDirectory() as folder:
        export(model, card, samples, Path(folder), FIELD)
        return open_onnxruntime(Path(folder) / "model.onnx")


def relative_latency(call: Call, reference: Call, samples: Samples) -> float:
    """p50 latency of `call` at batch 1, as a share of the reference's; the two take turns."""
    batch = samples.inputs(slice(0, 1)).numpy()
    timings = interleaved({"call": call, "reference": reference}, batch, rounds=ROUNDS, runs=RUNS)
    return timings["call"].latency_ms_p50 / timings["reference"].latency_ms_p50


def timed_operations(model: nn.Module, evidence: Evidence) -> OperationTable:
    """What each of its layers costs in ONNX Runtime as a function of its channels, measured here and now.

    Raises:
        ValueError: the evidence has no card or samples, or the model cannot be exported.
    """
    card, one = _deployable(evidence)
    calls = {"model": deployed(model, card, one)}
    whole = interleaved(calls, one.inputs(slice(None)).numpy(), rounds=ROUNDS, runs=RUNS)["model"]
    return operation_table(layers(model, evidence.input_shape), whole.latency_ms_p50)


def _macs(dense: nn.Module, evidence: Evidence) -> Measure:
    whole = macs(dense, evidence.input_shape)
    return lambda model: macs(model, evidence.input_shape) / whole


def _parameters(dense: nn.Module, evidence: Evidence) -> Measure:
    whole = parameters(dense)
    return lambda model: parameters(model) / whole


def _bytes(dense: nn.Module, evidence: Evidence) -> Measure:
    card, one = _deployable(evidence)

    def size(model: nn.Module) -> int:
        with TemporaryDirectory() as folder:
            export(model, card, one, Path(folder), FIELD)
            return (Path(folder) / "model.onnx").stat().st_size

    whole = size(dense)
    return lambda model: size(model) / whole


def _latency(dense: nn.Module, evidence: Evidence) -> Measure:
    card, one = _deployable(evidence)
    reference = deployed(dense, card, one)
    return lambda model: relative_latency(deployed(model, card, one), reference, one)


def _deployable(evidence: Evidence) -> tuple[Card, Samples]:
    if evidence.card is None or evidence.samples is None:
        raise ValueError("prune.target: bytes and latency need the data's card and samples")
    return evidence.card, evidence.samples.first(1, evidence.seed)


MEASURES: Final[Mapping[str, Callable[[nn.Module, Evidence], Measure]]] = {
    "macs": _macs,
    "parameters": _parameters,
    "bytes": _bytes,
    "latency": _latency,
}
