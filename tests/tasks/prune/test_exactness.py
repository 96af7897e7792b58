"""Operations between layers that move or mix channels: shapes fit after a cut, yet other channels would be gone."""

from copy import deepcopy

import pytest
import torch
from networks import Encoder
from torch import nn
from toy import stirred

from tasks.models.cnn import CNN
from tasks.models.depthwise import DepthwiseCNN
from tasks.models.mlp import MLP
from tasks.models.resnet import ResNet
from tasks.prune import exactness
from tasks.prune.allocation import NothingToCut
from tasks.prune.channels import groups, obstacles, remove_
from tasks.prune.criteria import l2
from tasks.prune.exactness import half_of

IMAGE = (1, 8, 8)
X = torch.rand(5, *IMAGE, generator=torch.Generator().manual_seed(0))


class Between(nn.Module):
    """Whatever lies between two convolutions."""

    def __init__(self, work):
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.work = work
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.second(self.work(self.first(x).relu())).relu().mean((2, 3)))


class Before(nn.Module):
    """Whatever lies between a convolution of 6 channels and a linear layer."""

    def __init__(self, work, inputs):
        super().__init__()
        self.first, self.work, self.head = nn.Conv2d(1, 6, 3), work, nn.Linear(inputs, 3)

    def forward(self, x):
        return self.head(self.work(self.first(x).relu()))


class Gated(nn.Module):
    """Every channel times one map of the same size."""

    def __init__(self):
        super().__init__()
        self.first, self.gate, self.second = nn.Conv2d(1, 8, 3), nn.Conv2d(8, 1, 1), nn.Conv2d(8, 8, 3)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        x = self.first(x).relu()
        return self.head(self.second(x * self.gate(x).sigmoid()).relu().mean((2, 3)))


class Squeezed(nn.Module):
    """Every channel times a number of its own."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(1, 8, 3), nn.Conv2d(8, 8, 3), nn.Linear(8, 3)
        self.down, self.up = nn.Linear(8, 4), nn.Linear(4, 8)

    def forward(self, x):
        x = self.first(x).relu()
        scale = self.up(self.down(x.mean((2, 3))).relu()).sigmoid().view(len(x), -1, 1, 1)
        return self.head(self.second(x * scale).relu().mean((2, 3)))


def shuffle(x):
    batch, channels, height, width = x.shape
    halves = x.view(batch, 2, channels // 2, height, width)
    return halves.transpose(1, 2).reshape(batch, channels, height, width)


def swapped_pairs(x):
    return x.view(len(x), -1, 2, *x.shape[2:]).flip(2).flatten(1, 2)


MOVING = {
    "shuffle": (Between(shuffle), "View, Transpose"),
    "channel shuffle of torch": (Between(nn.ChannelShuffle(2)), "ChannelShuffle"),
    "pairs": (Between(swapped_pairs), "Flip"),
    "flip": (Between(lambda x: x.flip(1)), "Flip"),
    "roll": (Between(lambda x: x.roll(1, 1)), "Roll"),
    "order": (Between(lambda x: x[:, [1, 0, 3, 2, 5, 4, 7, 6]]), "Index"),
    "halves": (Between(lambda x: torch.cat(x.chunk(2, 1)[::-1], 1)), "Split"),
    "softmax": (Between(lambda x: x.softmax(1)), "Softmax"),
    "neighbours": (Between(nn.LocalResponseNorm(3, alpha=1.0)), "AvgPool3D"),
    "flattened with channels last": (Before(lambda x: x.permute(0, 2, 3, 1).flatten(1), 6 * 36), "Permute"),
}


@pytest.mark.parametrize("name", MOVING)
def test_what_moves_or_mixes_channels_keeps_the_layer_before_it_whole_and_is_named(name):
    model, operation = stirred(deepcopy(MOVING[name][0])), MOVING[name][1]
    reason = obstacles(model, IMAGE)["first"]
    assert reason.startswith("an operation that mixes or moves channels (") and operation in reason
    if hasattr(model, "second"):
        assert [group.name for group in groups(model, IMAGE, l2)] == ["second"]
        return
    with pytest.raises(
        NothingToCut, match=r"^prune: no layer can lose channels: all are tied to an operation that mix"
    ):
        groups(model, IMAGE, l2)


@pytest.mark.parametrize("name", ["shuffle", "flip"])
def test_to_cut_it_by_name_is_refused_and_leaves_the_model_alone(name):
    model = stirred(deepcopy(MOVING[name][0]))
    before = model(X)
    message = (
        r"^prune: channels of first cannot be cut alone, as operations on their way mix or move channels \(.*; add"
    )
    with pytest.raises(ValueError, match=message):
        remove_(model, IMAGE, {"second": [0], "first": [1, 4]})
    assert torch.equal(model(X), before)


KEEPING = {
    "each alone": (Between(lambda x: x.exp().clamp(max=9.0)), "first"),
    "to and fro": (Between(lambda x: x.transpose(1, 2).contiguous().transpose(1, 2)), "first"),
    "their length": (Between(lambda x: nn.functional.normalize(x, dim=1)), "first"),
    "sequence": (Before(lambda x: x.flatten(2).transpose(1, 2).mean(1), 6), "first"),
    "flattened": (Before(lambda x: x.flatten(1), 6 * 36), "first"),
    "squeezed": (Squeezed(), "up"),
    "encoder": (Encoder(), "encoder.layers.0.linear1"),
}


@pytest.mark.parametrize("name", KEEPING)
def test_where_channels_stay_apart_all_can_go(name):
    model, layer = stirred(deepcopy(KEEPING[name][0])), KEEPING[name][1]
    found = {group.name: group for group in groups(model, IMAGE, l2)}
    assert layer in found and "first" not in obstacles(model, IMAGE)
    with torch.no_grad():  # what reads the channels, so that it is of no moment what they are
        for tie, side in found[layer].ties:
            reader = model.get_submodule(tie)
            if side == "inputs":
                width = reader.weight.shape[1] // found[layer].channels
                reader.weight[:, [width * channel + place for channel in (1, 3) for place in range(width)]] = 0
            else:
                reader.weight[[1, 3]] = 0
                reader.bias[[1, 3]] = 0
    before = model(X)
    remove_(model, IMAGE, {layer: [1, 3]})
    torch.testing.assert_close(model(X), before)


def test_one_map_for_all_channels_keeps_them_whole():
    model = stirred(Gated())
    assert obstacles(model, IMAGE) == {"first": "the single channel of gate"}
    assert {group.name: group.channels for group in groups(model, IMAGE, l2)} == {"gate": 1, "second": 8}


class Positioned(nn.Module):
    """Adds what it learned of each place to the channels there."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3), nn.Linear(4, 3)
        self.place = nn.Parameter(torch.rand(1, 4, 6, 6))

    def forward(self, x):
        return self.head(self.second(self.first(x) + self.place).relu().mean((2, 3)))


def test_a_parameter_of_the_model_s_own_keeps_what_it_is_added_to_whole_and_is_named():
    assert obstacles(Positioned(), IMAGE) == {"first": "a bare nn.Parameter", "place": "a bare nn.Parameter"}


@pytest.mark.parametrize(
    "model",
    [CNN(IMAGE, 3), ResNet(IMAGE, 3), MLP(IMAGE, 3), DepthwiseCNN(IMAGE, 3), CNN(IMAGE, 3, hidden=[12])],
    ids=lambda model: model._get_name(),
)
def test_nothing_is_tried_out_on_the_built_in_networks(model, monkeypatch):
    monkeypatch.setattr(exactness, "_is_exact", lambda *_: pytest.fail("tried out"))
    assert groups(model, IMAGE, l2)


@pytest.mark.parametrize("channels", [1, 2, 3, 8, 17])
def test_half_of_the_channels_are_tried_and_never_the_last(channels):
    found = half_of(channels)
    assert len(set(found)) == len(found) == channels // 2 and channels - 1 not in found
