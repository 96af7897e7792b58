"""Least squares for what reads a cut channel: exact where it can be, better than nothing where it cannot."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from networks import Concatenated, Reused
from sklearn.datasets import load_digits
from torch import nn
from toy import pictures, stirred, weights

from tasks.data.batches import Samples
from tasks.measure.accuracy import loss_and_accuracy
from tasks.measure.size import parameters
from tasks.models.cnn import CNN
from tasks.models.depthwise import DepthwiseCNN
from tasks.models.mlp import MLP
from tasks.models.resnet import ResNet
from tasks.params import Train
from tasks.prune.channels import groups, remove_
from tasks.prune.compensation import remove_refitting_
from tasks.prune.criteria import l2
from tasks.prune.structured import weakest
from tasks.training.loop import fit_

IMAGE = (1, 8, 8)
SAMPLES = pictures(64)


class Line(nn.Module):
    """Convolutions along a row, with steps, gaps and reflected edges."""

    def __init__(self):
        super().__init__()
        self.make = nn.Conv1d(8, 6, 3)
        self.read = nn.Conv1d(6, 5, 3, stride=2, padding=1, dilation=2, padding_mode="reflect")
        self.head = nn.Linear(5, 3)

    def forward(self, x):
        return self.head(self.read(self.make(x[:, 0]).relu()).relu().mean(2))


class Same(nn.Module):
    def __init__(self):
        super().__init__()
        self.make = nn.Conv2d(1, 6, 3, padding="same")
        self.read = nn.Conv2d(6, 5, (3, 5), padding="same", bias=False)
        self.head = nn.Linear(5, 3)

    def forward(self, x):
        return self.head(self.read(self.make(x).relu()).relu().mean((2, 3)))


@pytest.mark.parametrize(
    ("model", "name", "makers"),
    [
        (CNN(IMAGE, 3, (6, 8), (2, 2)), "body.0.0", ["body.0.0", "body.0.1"]),
        (MLP(IMAGE, 3, (6, 8)), "body.1", ["body.1", "body.2"]),
        (Same(), "make", ["make"]),
        (Line(), "make", ["make"]),
    ],
    ids=["cnn", "mlp", "same", "line"],
)
def test_a_channel_that_another_equals_is_made_up_for(model, name, makers):
    """What reads channel 1 as well can read twice as much of its twin."""
    model = stirred(model)
    with torch.no_grad():
        for maker in makers:
            for tensor in model.get_submodule(maker).state_dict().values():
                if tensor.ndim:
                    tensor[1] = tensor[4]
    inputs = SAMPLES.inputs(slice(None))
    before, plain = model(inputs), deepcopy(model)
    remove_(plain, IMAGE, {name: [1]})
    remove_refitting_(model, IMAGE, {name: [1]}, SAMPLES)
    error, without = (float((each(inputs) - before).detach().abs().mean()) for each in (model, plain))
    assert error < 0.05 * without


@pytest.mark.parametrize(
    "model",
    [
        CNN(IMAGE, 3, (6, 8), (2, 2)),
        ResNet(IMAGE, 3, (6, 8)),
        DepthwiseCNN(IMAGE, 3, (6, 8, 8)),
        Concatenated(),
        Reused(),
    ],
    ids=lambda model: type(model).__name__,
)
def test_it_is_as_small_as_without_and_repeats(model):
    cuts = {group.name: weakest(group, group.channels - 2) for group in groups(stirred(model), IMAGE, l2)}
    models = [stirred(deepcopy(model)) for _ in range(3)]
    remove_(models[0], IMAGE, cuts)
    for each in models[1:]:
        remove_refitting_(each, IMAGE, cuts, SAMPLES)
    assert parameters(models[1]) == parameters(models[0])
    assert weights(models[1].eval()) == weights(models[2].eval()) and models[1](SAMPLES.inputs(slice(2))).shape == (
        2,
        3,
    )
    assert all(tensor.isfinite().all() for tensor in models[1].parameters())


@pytest.mark.parametrize("make", [CNN, ResNet])
def test_it_helps_before_any_training(make):
    found = load_digits()
    x, y = (found.images[:, None] / 16).astype(np.float32), found.target.astype(np.int64)
    data, other = Samples(x, y, np.arange(600)), Samples(x, y, np.arange(600, 1000))
    torch.manual_seed(0)
    model = CNN(IMAGE, 10, (16, 24), (2, 2)) if make is CNN else ResNet(IMAGE, 10, (16, 24))
    fit_(model, data, other, Train(epochs=4, batch_size=32, lr=0.01), seed=0, series="digits")
    cuts = {group.name: weakest(group, group.channels // 2) for group in groups(model, IMAGE, l2)}
    plain, refitted = deepcopy(model), deepcopy(model)
    remove_(plain, IMAGE, cuts)
    remove_refitting_(refitted, IMAGE, cuts, data.first(256, 0))
    (loss_without, without), (loss, accuracy) = (loss_and_accuracy(each, other) for each in (plain, refitted))
    assert loss < 0.7 * loss_without and accuracy > without + 0.1
