"""The measurement itself, on two files that take milliseconds; and deploy.json after it."""

import json

import numpy as np
import pytest
import torch
from toy import blobs, card, network

from tasks import checkpoint
from tasks.data.splits import Splits
from tasks.evaluate.candidates import measure
from tasks.evaluate.deployment import hand_over
from tasks.export.onnx import export
from tasks.models.normalised import Normalised
from tasks.params import Evaluate, Exports, Factory, Profile

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


def test_deploy_json_says_what_each_device_is_served_and_what_lies_beside_it(folders, tmp_path):
    rows = [{"name": name, "checks": [{"name": "agreement", "verdict": "pass"}]} for name in folders]
    told = hand_over(folders, rows, DATA, PARAMS, tmp_path / "deploy")
    found = json.loads((tmp_path / "deploy" / "deploy.json").read_text())
    assert found["exports"] == told["exports"] and found["profiles"] == told["profiles"]
    files = ["pruned.pt2", "pruned.onnx", "quantized.onnx"]
    assert [entry["file"] for entry in found["exports"]] == files
    assert {path.name for path in (tmp_path / "deploy").iterdir()} == {"deploy.json", *files}
    one, small = found["profiles"]
    assert one["served"]["runtime"] == "onnxruntime" and small["served"] is None
    assert small["misses"][0].startswith("size ") and found["classes"] == ["a", "b", "c"]
    served = next(c for c in told["candidates"] if c["model"] == one["served"]["model"])
    assert served["latency_ms_p50"] == min(c["latency_ms_p50"] for c in told["candidates"])
    assert np.isfinite([value for value in served.values() if isinstance(value, float)]).all()
