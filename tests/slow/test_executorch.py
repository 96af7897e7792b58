"""A .pte file: XNNPACK's answers, and what is said of an operation that ExecuTorch lacks. Half a minute of lowering."""

from importlib.util import find_spec

import pytest
import torch
from toy import card, network, pictures, stirred

from tasks.data.splits import Splits
from tasks.export import pte
from tasks.export.formats import Source, export_all
from tasks.export.onnx import export
from tasks.models.cnn import CNN
from tasks.params import Exports

pytestmark = [
    pytest.mark.skipif(not find_spec("executorch"), reason="the extra executorch is not installed"),
    pytest.mark.filterwarnings("ignore"),  # its own, of packages that it could use
]


class Bessel(torch.nn.Module):
    def forward(self, x):
        return torch.special.bessel_j0(x)


def test_a_convolutional_network_answers_as_in_pytorch(tmp_path):
    samples = pictures(30)
    data = Splits(card((1, 8, 8)), samples, samples, samples, samples)
    model = stirred(CNN((1, 8, 8), 3, channels=[4, 8], strides=[1, 2]))
    export(model, data.card, samples, tmp_path, "distill.model")
    source = Source("pruned", tmp_path / "model.onnx", model, integer=False)
    (entry,) = export_all([source], Exports(formats=["executorch"]), data, tmp_path)
    assert entry["file"] == "pruned.pte" and entry["batch"] == 1 and entry["parity"]["label_agreement"] == 1
    assert b"xnnpack" in (tmp_path / "pruned.pte").read_bytes().lower()


def test_an_operation_that_executorch_lacks_is_named_with_its_caller(tmp_path):
    model = torch.nn.Sequential(network(), torch.nn.Sequential(Bessel()))
    with pytest.raises(ValueError, match=r"ExecuTorch: it has no \w*bessel_j0, which 1\.0 calls; put"):
        pte.write(model, tmp_path / "m.pte", (4,), field="evaluate.exports")
    assert list(tmp_path.iterdir()) == []
