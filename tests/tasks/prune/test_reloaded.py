"""A pruned model that came back from disk is a model as any other."""

import pytest
import torch
from pydantic import TypeAdapter
from round_trip import serves_as_any_other
from toy import card, pictures

from tasks import checkpoint
from tasks.measure.size import macs
from tasks.params import Factory, Prune, Train
from tasks.prune import unstructured
from tasks.prune.channels import remove_
from tasks.prune.evidence import Evidence
from tasks.prune.matrices import surviving, weights
from tasks.training.loop import fit_

SHAPE = (1, 8, 8)
CARD = card(SHAPE)
X = 16 * torch.rand(5, *SHAPE, generator=torch.Generator().manual_seed(0))
NETS = {
    "cnn": Factory(factory="tasks.models.cnn:CNN", args={"channels": [8, 8], "strides": [2, 2]}),
    "resnet": Factory(factory="tasks.models.resnet:ResNet", args={"widths": [4, 8]}),
    "mlp": Factory(factory="tasks.models.mlp:MLP", args={"hidden": [8, 8]}),
    "depthwise": Factory(factory="tasks.models.depthwise:DepthwiseCNN", args={"channels": [8, 8], "strides": [2, 1]}),
    "transposed": Factory(factory="networks:Transposed"),
    "encoder": Factory(factory="networks:Encoder", args={"layers": 1}),
    "reused": Factory(factory="networks:Reused"),
}
CUTS = [
    ("cnn", "body.0.0"),
    ("cnn", "body.1.0"),
    ("resnet", "body.1.0"),
    ("resnet", "body.2.body.0.0"),
    ("mlp", "body.1"),
    ("depthwise", "body.1.0"),
    ("transposed", "make"),
    ("encoder", "encoder.layers.0.linear1"),
    ("reused", "conv"),
]


def built(name):
    return checkpoint.build(NETS[name], CARD, (torch.full((1, 1, 1), 8.0), torch.full((1, 1, 1), 4.0)), 0, "model")


@pytest.mark.parametrize(("name", "layer"), CUTS)
def test_it_trains_on_exports_and_is_pruned_again(tmp_path, name, layer):
    model = built(name)
    remove_(model, SHAPE, {f"model.{layer}": [1, 2, 5]})
    checkpoint.save(model, CARD, tmp_path / "once", parent="student")
    again = checkpoint.load(tmp_path / "once", CARD)
    serves_as_any_other(again, CARD, X, tmp_path)
    before = macs(again, SHAPE)
    remove_(again, SHAPE, {f"model.{layer}": [0]})
    assert macs(again, SHAPE) < before and again(X).shape == (5, 3)


def test_a_masked_one_trains_on_within_its_masks_exports_and_is_pruned_again(tmp_path):
    def params(sparsity):
        given = {"pattern": "unstructured", "target": {"sparsity": sparsity}, "recalibrate": False}
        return TypeAdapter(Prune).validate_python(given)

    def score(_):
        return 0.0, 0.0

    model = built("cnn")
    (keep,) = unstructured.shrink_(model, params(0.7), Evidence(SHAPE, score), [1.0])
    checkpoint.save(model, CARD, tmp_path / "once", parent="student")
    again = checkpoint.load(tmp_path / "once", CARD)
    assert torch.equal(again(X), model.eval()(X))
    serves_as_any_other(again, CARD, X, tmp_path)
    survivors = surviving(again, params(0.7), SHAPE)
    assert all(torch.equal(survivors[name], mask) for name, mask in keep.items())
    before = {name: tensor.clone() for name, tensor in weights(again).items()}
    fit_(again, pictures(), pictures(), Train(epochs=1, batch_size=8), seed=0, series="toy", keep=survivors)
    for name, weight in weights(again).items():
        assert not weight[~keep[name]].any() and not torch.equal(weight, before[name])
    (further,) = unstructured.shrink_(again, params(0.9), Evidence(SHAPE, score), [1.0])
    assert not any((further[name] & ~mask).any() for name, mask in keep.items())
    gone = sum(int((~mask).sum()) for mask in further.values())
    assert gone == round(0.9 * sum(mask.numel() for mask in further.values()))
