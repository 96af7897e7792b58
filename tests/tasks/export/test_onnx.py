import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from projects import ROOT
from torch import nn
from toy import blobs, card, pictures, stirred

from tasks.export.onnx import export
from tasks.measure.accuracy import logits
from tasks.measure.runtime import open_session
from tasks.models.mlp import MLP

DATA = blobs()


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("onnx") / "made" / "here"
    model = stirred(MLP((4,), 3, (8,)))
    export(model, card((4,)), DATA, folder, "teacher.model")
    return model, folder


@pytest.mark.parametrize("batch", [1, 2, 7, 60])
def test_any_batch_size_gets_the_models_answers(exported, batch):
    model, folder = exported
    inputs = DATA.inputs(slice(0, batch))
    found = open_session(folder / "model.onnx").run(None, {"x": inputs.numpy()})[0]
    np.testing.assert_allclose(found, logits(model, DATA)[:batch].numpy(), rtol=1e-4, atol=1e-5)


def test_deploy_json_says_what_goes_in_and_comes_out(exported):
    deploy = json.loads((exported[1] / "deploy.json").read_text())
    assert deploy["inputs"] == [{"name": "x", "shape": ["batch", 4], "dtype": "float32"}]
    assert deploy["outputs"] == [{"name": "logits", "shape": ["batch", 3], "dtype": "float32"}]
    assert deploy["classes"] == ["a", "b", "c"]
    assert deploy["parity"]["label_agreement"] == 1 and deploy["parity"]["samples"] == 60
    session = open_session(exported[1] / "model.onnx")
    assert [item.name for item in session.get_inputs()] == ["x"]
    assert [item.name for item in session.get_outputs()] == ["logits"]


def test_the_file_carries_no_traces_of_its_source(exported):
    content = (exported[1] / "model.onnx").read_bytes()
    assert str(ROOT).encode() not in content and str(Path(sys.prefix)).encode() not in content
    graph = onnx.load(exported[1] / "model.onnx").graph
    assert not graph.value_info and not any(node.doc_string or node.metadata_props for node in graph.node)


def test_a_module_that_cannot_be_exported_gives_one_line(tmp_path):
    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(4, 3)

        def forward(self, x):
            return self.head(x) if x.sum() > 1 else -self.head(x)

    with pytest.raises(ValueError, match=r"^distill\.model: cannot be exported to ONNX: \S") as caught:
        export(Branching(), card((4,)), DATA, tmp_path, "distill.model")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_answers_differently_is_refused(tmp_path):
    class Drifting(nn.Module):
        """Answers otherwise outside of the export."""

        def __init__(self):
            super().__init__()
            self.head = nn.Linear(4, 3)

        def forward(self, x):
            return self.head(x) + (0 if torch.compiler.is_exporting() else 1)

    with pytest.raises(ValueError, match=r"^distill\.model: the ONNX file differs from the model by \d"):
        export(Drifting(), card((4,)), DATA, tmp_path, "distill.model")
    assert not (tmp_path / "deploy.json").exists()


def test_images_export_with_their_shape(tmp_path):
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 3))
    export(model, card((1, 8, 8)), pictures(), tmp_path, "teacher.model")
    assert json.loads((tmp_path / "deploy.json").read_text())["inputs"][0]["shape"] == ["batch", 1, 8, 8]


def test_an_operation_that_onnx_lacks_is_named_with_the_module_that_calls_it(tmp_path):
    class Bessel(nn.Module):
        def forward(self, x):
            return torch.special.bessel_j0(x)

    model = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.ReLU(), Bessel()), nn.Linear(4, 3))
    with pytest.raises(ValueError, match=r"^teacher\.model: .* it has no bessel_j0, which 1\.1 calls; put") as caught:
        export(model, card((4,)), DATA, tmp_path, "teacher.model")
    assert "\n" not in str(caught.value)
