import json

import onnx
import pytest
import torch
from toy import blobs, card, network, save_splits

from tasks.data.splits import load_splits
from tasks.export.onnx import export
from tasks.files import Files
from tasks.params import Quantize
from tasks.quantize.stage import quantize


@pytest.fixture(scope="module")
def reads(tmp_path_factory):
    """The files of a project up to prune."""
    folder = tmp_path_factory.mktemp("project")
    found = save_splits(folder, blobs(90)) | {"pruned": folder / "pruned"}
    model = network().eval()
    with torch.no_grad():
        model(load_splits(found).train.inputs(slice(None)))
    export(model, card((4,)), load_splits(found).validation, found["pruned"], "distill.model")
    return found


def quantized(reads, folder, **params):
    metrics = quantize(Quantize.model_validate(params), 0, Files(reads, {"quantized": folder}))
    return metrics, json.loads((folder / "quantization.json").read_text())


def test_all_products_are_integer_and_the_figures_say_so(reads, tmp_path):
    metrics, facts = quantized(reads, tmp_path / "quantized")
    assert metrics["integer_op_share"] == 1 and metrics["agreement_with_float"] == 1
    assert facts["scheme"] == "int8"
    assert [entry["arithmetic"] for entry in facts["operations"]] == ["integer", "integer"]
    assert metrics["size_bytes"] == (tmp_path / "quantized/model.onnx").stat().st_size


def test_twice_gives_the_same_bytes(reads, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    assert quantized(reads, first) == quantized(reads, second)
    assert {path.name: path.read_bytes() for path in first.iterdir()} == {
        path.name: path.read_bytes() for path in second.iterdir()
    }
    onnx.checker.check_model(onnx.load(first / "model.onnx"))
