"""The measurement itself, on two files that take milliseconds; and deploy.json after it."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from toy import blobs, card, network

from tasks import checkpoint
from tasks.data.splits import Splits
from tasks.evaluate.candidates import measure
from tasks.evaluate.deployment import hand_over
from tasks.export.onnx import export
from tasks.export.packed import packed, unpack
from tasks.measure.runtime import answers, open_onnxruntime
from tasks.models.normalised import Normalised
from tasks.params import Evaluate, Exports, Factory, Profile, load_params
from tasks.served import on_device

SAMPLES = blobs(30)
DATA = Splits(card((4,)), SAMPLES, SAMPLES, SAMPLES, SAMPLES)
PARAMS = Evaluate(
    latency_rounds=3,
    latency_runs=5,
    throughput_runs=2,
    throughput_batch_size=64,
    exports=Exports(formats=["exported_program", "onnx"]),
    profiles={"one": Profile(runtimes=["onnxruntime"]), "small": Profile(runtimes=["onnxruntime"], max_size_bytes=9)},
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A pruned model, and the same file again as if it were its quantized one."""
    root = tmp_path_factory.mktemp("candidates")
    factory = Factory(factory="tasks.models.mlp:MLP", args={"hidden": [8]})
    model = Normalised(network(), torch.zeros(4), torch.ones(4), factory).eval()
    for name in ("pruned", "quantized"):
        checkpoint.save(model, DATA.card, root / name, parent=None)
        export(model, DATA.card, SAMPLES, root / name, "distill.model")
    return {name: root / name for name in ("pruned", "quantized")}


@pytest.mark.parametrize("file", ["params.yaml", "params.fashion.yaml"])
def test_what_is_chosen_in_earnest_was_run_two_hundred_times_at_least(file):
    params = load_params(Path(__file__).parents[3] / file).evaluate
    for own in (Evaluate(), params):
        assert own.latency_rounds * own.latency_runs >= 200


def test_every_way_is_measured_and_the_same_file_is_no_faster_than_itself(folders):
    files = {name: folder / "model.onnx" for name, folder in folders.items()}
    found = measure(files, "pruned", SAMPLES, PARAMS)
    assert [(one.model, one.runtime, one.threads) for one in found] == [
        ("pruned", "onnxruntime", 1),
        ("quantized", "onnxruntime", 1),
    ]
    assert found[0].speedup == (1, 1, 1) and found[1].speedup[1] < 2
    assert all(one.runs == 15 and one.label_agreement == 1 and "Gemm" in one.float_operations for one in found)
    assert all(one.size_bytes == files[one.model].stat().st_size for one in found)


@pytest.fixture(scope="module")
def handed(folders, tmp_path_factory):
    """The folder of what is handed over, and what the summary says of it."""
    folder = tmp_path_factory.mktemp("handed") / "deploy"
    rows = [{"name": name, "checks": [{"name": "agreement", "verdict": "pass"}]} for name in folders]
    return folder, hand_over(folders, rows, DATA, PARAMS, folder)


def test_the_record_names_the_measured_file_of_a_device_by_path_and_hash(handed, folders):
    folder, told = handed
    served = told["profiles"][0]["served"]
    data = (folder / served["file"]).read_bytes()
    assert data == (folders[served["model"]] / "model.onnx").read_bytes()
    assert served["sha256"] == hashlib.sha256(data).hexdigest()


def test_what_is_handed_over_is_served_as_the_record_says(handed):
    folder, told = handed
    x = SAMPLES.inputs(slice(None)).numpy()
    found = on_device(folder, "one").predict(x)["label"].tolist()
    expected = answers(open_onnxruntime(folder / told["profiles"][0]["served"]["file"]), SAMPLES).argmax(1)
    assert found == ["abc"[place] for place in expected]


def test_the_packed_file_beside_the_served_one_unpacks_to_it(handed, tmp_path):
    folder, told = handed
    assert [one["model"] for one in told["files"]] == ["pruned", "quantized"]
    for one in told["files"]:
        served = (folder / one["file"]).read_bytes()
        small = Path(shutil.copy(folder / one["packed"], tmp_path))
        assert (folder / one["packed"]).read_bytes() == packed(served)
        assert one["packed_bytes"] == len(packed(served)) and one["size_bytes"] == len(served)
        again = unpack(small)
        assert hashlib.sha256(again.read_bytes()).hexdigest() == one["sha256"]
        again.unlink()


def test_deploy_json_says_what_each_device_is_served_and_what_lies_beside_it(handed):
    folder, told = handed
    found = json.loads((folder / "deploy.json").read_text())
    assert found["files"] == told["files"]
    assert found["exports"] == told["exports"] and found["profiles"] == told["profiles"]
    files = ["pruned.pt2", "pruned.onnx", "quantized.onnx"]
    assert [entry["file"] for entry in found["exports"]] == files
    placed = {one[key] for one in found["files"] for key in ("file", "packed")}
    there = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert there == {"deploy.json", *files, *placed}
    one, small = found["profiles"]
    assert one["served"]["runtime"] == "onnxruntime" and small["served"] is None
    assert small["misses"][0].startswith("size ") and found["classes"] == ["a", "b", "c"]
    served = next(c for c in told["candidates"] if c["model"] == one["served"]["model"])
    assert served["latency_ms_p50"] == min(c["latency_ms_p50"] for c in told["candidates"])
    assert np.isfinite([value for value in served.values() if isinstance(value, float)]).all()
