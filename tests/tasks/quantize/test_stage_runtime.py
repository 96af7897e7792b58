"""The stage with graphs that are rare, and with files that ONNX Runtime cannot open, whoever opens them first."""

import json
import logging

import onnx
import pytest
import torch
from branches import branching, last_state
from onnx import TensorProto, helper
from pydantic import TypeAdapter
from toy import blobs, save_splits

from tasks import checkpoint
from tasks.checkpoint import build
from tasks.data.splits import load_splits, moments
from tasks.export.onnx import export
from tasks.files import Files
from tasks.measure.integers import operations
from tasks.params import Factory, Quantize
from tasks.quantize import schemes
from tasks.quantize.stage import quantize
from tasks.quantize.trainable import Trainable


@pytest.fixture(scope="module")
def reads(tmp_path_factory):
    """The files of a project up to prune."""
    folder = tmp_path_factory.mktemp("project")
    found = save_splits(folder, blobs(90)) | {"pruned": folder / "pruned", "teacher": folder / "pruned"}
    data = load_splits(found)
    factory = Factory(factory="tasks.models.mlp:MLP", args={"hidden": [8]})
    model = build(factory, data.card, moments(data.train), 0, "teacher.model").eval()
    checkpoint.save(model, data.card, found["pruned"], None)
    export(model, data.card, data.validation, found["pruned"], "distill.model")
    return found


def quantized(reads, folder, **params):
    files = Files(reads, {"quantized": folder / "quantized", "diary": folder / "diary"})
    metrics = quantize(TypeAdapter(Quantize).validate_python(params), 0.2, None, 0, files)
    return metrics, json.loads((folder / "quantized/quantization.json").read_text())


def unrunnable(model):
    """The same with its last operation followed by one in double precision, for which the runtime has no kernel."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    last = next(node for node in made.graph.node if node.output[0] == "logits")
    last.output[0] = "product"
    made.graph.node.extend(
        [
            helper.make_node("Cast", ["product"], ["wide"], to=TensorProto.DOUBLE),
            helper.make_node("Acos", ["wide"], ["angle"]),
            helper.make_node("Cast", ["angle"], ["logits"], to=TensorProto.FLOAT),
        ]
    )
    return made


STATIC = {"scheme": "int8", "ladder": False, "portable": False, "activation": "unsigned"}
TRAIN = {"training": {"train": {"epochs": 1, "batch_size": 9}}}
CASES = {
    "at the end": {"scheme": "bf16"},
    "static": STATIC,
    "portable": STATIC | {"portable": True},
    "ladder": STATIC | {"ladder": True},
    "speed": STATIC | {"activation": "auto"},
    "mixed": {"scheme": "mixed", "portable": False},
    "qat": {"scheme": "qat", "portable": False} | TRAIN,
}


@pytest.mark.parametrize("case", CASES)
def test_a_file_that_the_runtime_cannot_open_is_told_in_one_line_whoever_opens_it(reads, tmp_path, monkeypatch, case):
    params, build, written = CASES[case], schemes.to_int8, Trainable.written
    if params["scheme"] == "bf16":
        monkeypatch.setitem(schemes.SCHEMES, "bf16", lambda model, *_: (unrunnable(model), {}))
    elif params["scheme"] == "qat":
        monkeypatch.setattr(Trainable, "written", lambda self: unrunnable(written(self)))
    else:
        monkeypatch.setattr(schemes, "to_int8", lambda *args, **knobs: unrunnable(build(*args, **knobs)))
    others = "int4_weight_only" if params["scheme"] == "int8" else "int8 or int4_weight_only"
    with pytest.raises(
        ValueError,
        match=rf"^quantize\.scheme {params['scheme']}: ONNX Runtime [\d.]+ cannot run its file here: "
        rf"Could not find an implementation for Acos\(7\) .*; {others} would do$",
    ) as error:
        quantized(reads, tmp_path, **params)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("source", "floats"), [(branching, 3), (last_state, 1)])
def test_branches_and_an_lstm_of_which_one_output_is_wanted_pass_by_default(reads, tmp_path, source, floats):
    (tmp_path / "pruned").mkdir()
    onnx.save(source(), tmp_path / "pruned/model.onnx")
    metrics, facts = quantized(reads | {"pruned": tmp_path / "pruned"}, tmp_path, scheme="int8")
    assert {"accuracy_s8s8", "accuracy_u8s8_saturating"} <= metrics.keys()
    assert [entry["arithmetic"] for entry in facts["operations"]].count("float") == floats
    assert len(operations(tmp_path / "quantized/model.onnx")) == len(facts["operations"])
    assert metrics["integer_op_share"] == 1 - floats / len(facts["operations"])


def test_an_operation_with_an_unwanted_first_output_can_be_named(reads, tmp_path):
    (tmp_path / "pruned").mkdir()
    onnx.save(last_state(), tmp_path / "pruned/model.onnx")
    with pytest.raises(ValueError, match=r"no operation is called 'x'; there are sequence, state, flat, logits$"):
        quantized(reads | {"pruned": tmp_path / "pruned"}, tmp_path, scheme="int8", ladder=False, in_float=["x"])


@pytest.mark.parametrize("here", [True, False])
@pytest.mark.parametrize(("scheme", "warned"), [("fp8", True), ("int8_symmetric", True), ("fp16", False)])
def test_schemes_for_gpus_say_that_none_is_here(reads, tmp_path, monkeypatch, caplog, scheme, warned, here):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: here)
    with caplog.at_level(logging.WARNING, logger="tasks.quantize"):
        quantized(reads, tmp_path, scheme=scheme)
    line = f"quantize.scheme {scheme} is for GPUs and none is here: its file is checked on the CPU only"
    assert caplog.messages == ([line] if warned and not here else [])
