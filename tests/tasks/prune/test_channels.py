import pytest
import torch
from networks import Concatenated, Grouped, Recurrent, Reused, Transformer, Transposed, TwoHeads
from torch import nn
from toy import pictures, stirred

from tasks.measure.size import macs, nonzero, parameters
from tasks.models.cnn import CNN
from tasks.models.depthwise import DepthwiseCNN
from tasks.models.mlp import MLP
from tasks.models.resnet import ResNet
from tasks.prune.allocation import NothingToCut
from tasks.prune.channels import Group, groups, obstacles, readers, remove_
from tasks.prune.criteria import bn_scale, l1, l2, taylor
from tasks.prune.graph import Graph
from tasks.prune.structured import kept_channels, weakest

IMAGE = (1, 8, 8)
X = torch.rand(5, *IMAGE, generator=torch.Generator().manual_seed(0))


class Flattened(nn.Module):
    """Each channel of the convolution becomes 16 inputs of the linear layer."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 6, 3, stride=2, padding=1)
        self.head = nn.Linear(6 * 16, 3)

    def forward(self, x):
        return self.head(self.conv(x).relu().flatten(1))


def silence_(layer, channels):
    """Make these output channels zero whatever comes in."""
    with torch.no_grad():
        for parameter in layer.parameters():
            made = (
                parameter.transpose(0, 1) if isinstance(layer, nn.ConvTranspose2d) and parameter.ndim > 1 else parameter
            )
            made[channels] = 0


def assert_cut_keeps_outputs(model, silenced, name, channels):
    model = stirred(model)
    for layer in silenced:
        layer, first = layer if isinstance(layer, tuple) else (layer, 0)
        silence_(model.get_submodule(layer), [first + channel for channel in channels])
    before, size = model(X), parameters(model)
    remove_(model, IMAGE, {name: channels})
    torch.testing.assert_close(model(X), before)
    assert parameters(model) < size


@pytest.mark.parametrize(
    ("model", "silenced", "name"),
    [
        (CNN(IMAGE, 3, (6, 8), (2, 2)), ["body.0.1"], "body.0.0"),
        (CNN(IMAGE, 3, (6, 8), (2, 2)), ["body.1.1"], "body.1.0"),
        (MLP(IMAGE, 3, (6, 8)), ["body.2"], "body.1"),
        (Flattened(), ["conv"], "conv"),
        # both ends of the residual connection, and what reads it
        (ResNet(IMAGE, 3, (4, 6)), ["body.1.1", "body.2.body.1.1"], "body.1.0"),
        (ResNet(IMAGE, 3, (4, 6)), ["body.2.body.0.1"], "body.2.body.0.0"),
        (DepthwiseCNN(IMAGE, 3, (6, 8), (2, 1)), ["body.0.1", "body.1.1"], "body.1.0"),
        # read both inside the branch and through the concatenation
        (Concatenated(), ["first", "norm"], "first"),
        (Concatenated(), ["second", ("norm", 5)], "second"),
        (Reused(), ["stem", "conv"], "conv"),
        (Transposed(), ["make"], "make"),
        (Transformer(), ["encoder.layers.0.linear1"], "encoder.layers.0.linear1"),
    ],
    ids=[
        *("cnn_first", "cnn_last", "mlp", "flatten", "residual_stream", "residual_inner", "depthwise"),
        *("concatenated_and_read", "concatenated", "reused", "transposed", "feed_forward"),
    ],
)
def test_cutting_channels_that_are_zero_leaves_the_outputs_equal(model, silenced, name):
    assert_cut_keeps_outputs(model, silenced, name, [1, 4])


def test_macs_fall_by_the_predicted_number():
    model = CNN(IMAGE, 3, (8, 12), (2, 2))

    def predicted(first, second):  # images of 4 x 4, then 2 x 2
        return 9 * first * 16 + 9 * first * second * 4 + second * 3

    assert macs(model, IMAGE) == predicted(8, 12)
    remove_(model, IMAGE, {"body.0.0": [0, 3, 5]})
    assert macs(model, IMAGE) == predicted(5, 12)
    remove_(model, IMAGE, {"body.1.0": [0, 11]})
    assert macs(model, IMAGE) == predicted(5, 10)
    assert nonzero(model) <= parameters(model) == 9 * 5 + 2 * 5 + 9 * 5 * 10 + 2 * 10 + 3 * 10 + 3


@pytest.mark.parametrize("training", [True, False])
def test_cutting_keeps_the_mode_and_the_other_channels_values(training):
    model = stirred(CNN(IMAGE, 3, (4, 4), (2, 2))).train(training)
    kept = model.body[0][0].weight.detach()[[0, 2]].clone()
    remove_(model, IMAGE, {"body.0.0": [3, 1], "body.1.0": []})
    assert model.training is training
    assert torch.equal(model.body[0][0].weight.detach(), kept)
    assert model.body[1][0].weight.shape[:2] == (4, 2)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (CNN(IMAGE, 3, (4, 6), (2, 2)), {"body.0.0": 4, "body.1.0": 6}),
        (MLP(IMAGE, 3, (5,)), {"body.1": 5}),
        (ResNet(IMAGE, 3, (4, 6)), {"body.0.0": 4, "body.2.body.0.0": 6, "body.2.body.1.0": 6}),
        (Flattened(), {"conv": 6}),
    ],
)
def test_the_output_layer_never_loses_channels(model, expected):
    assert {group.name: group.channels for group in groups(model, IMAGE, l1)} == expected


def test_scores_add_up_what_makes_and_what_reads_a_channel():
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 2], [0, 3], [-4, 0]]))
        model[2].weight.copy_(torch.tensor([[5.0, 0, 1], [0, -2, 1]]))
    (group,) = groups(model, (2,), l2)
    assert group.scores.tolist() == [5 + 25, 9 + 4, 16 + 2]
    (group,) = groups(model, (2,), l1)
    assert group.scores.tolist() == [3 + 5, 3 + 2, 4 + 2]


def test_scores_of_a_flattened_channel_count_all_its_inputs():
    model = stirred(Flattened())
    (group,) = groups(model, IMAGE, l2)
    made = model.conv.weight.detach().square().sum((1, 2, 3))
    read = model.head.weight.detach().view(3, 6, 16).square().sum((0, 2))
    torch.testing.assert_close(group.scores, made + read)


def test_weakest_keeps_the_highest_scores():
    group = Group("layer", torch.tensor([3.0, 1.0, 2.0, 1.0]))
    assert weakest(group, 2) == [1, 3] and weakest(group, 3) == [1] and weakest(group, 9) == []


@pytest.mark.parametrize(
    ("channels", "ratio", "round_to", "kept"),
    [
        (10, 0.0, 4, 10),  # nothing asked for, nothing cut
        (10, 0.04, 4, 10),  # less than half a channel
        (10, 0.06, 4, 8),
        (10, 0.5, 4, 4),  # 5 is nearer to 4 than to 8
        (16, 0.5, 4, 8),
        (16, 1.0, 4, 4),
        (3, 0.9, 4, 3),
        (7, 0.5, 1, 4),
    ],
)
def test_how_many_channels_stay_by_hand(channels, ratio, round_to, kept):
    assert kept_channels(channels, ratio, round_to) == kept


def test_a_depthwise_filter_counts_in_its_group_s_score():
    model = stirred(DepthwiseCNN(IMAGE, 3, (6, 8), (2, 1)))
    found = {group.name: group.scores for group in groups(model, IMAGE, l2)}
    stem, filters, mix = (model.get_submodule(name).weight.detach() for name in ("body.0.0", "body.1.0", "body.1.3"))
    expected = stem.square().sum((1, 2, 3)) + filters.square().sum((1, 2, 3)) + mix.square().sum((0, 2, 3))
    torch.testing.assert_close(found["body.0.0" if "body.0.0" in found else "body.1.0"], expected)


def test_the_batchnorm_s_factor_is_all_that_bn_scale_sees():
    model = stirred(CNN(IMAGE, 3, (4, 6), (2, 2)))
    with torch.no_grad():
        model.body[1][1].weight.copy_(torch.tensor([1.0, -3, 0, 2, 5, -4]))
    found = {group.name: group.scores.tolist() for group in groups(model, IMAGE, bn_scale)}
    assert found["body.1.0"] == [1, 3, 0, 2, 5, 4]


def test_bn_scale_without_batchnorm_says_so():
    with pytest.raises(
        ValueError, match=r"^prune.criterion bn_scale: no BatchNorm with a factor follows 'conv'; use l2"
    ):
        groups(Flattened(), IMAGE, bn_scale)


class Detached(Flattened):
    """Of whole batches, not of the pair of blank images that shows how the layers hang together."""

    def forward(self, x):
        features = self.conv(x).relu().flatten(1)
        return self.head(features.detach() if len(x) > 2 else features)


def test_taylor_where_no_gradient_arrives_says_so():
    with pytest.raises(ValueError, match=r"^prune.criterion taylor: no gradient reaches what reads 'conv'; use l2$"):
        groups(Detached(), IMAGE, taylor, samples=pictures())


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (Concatenated(), {"first": 5, "second": 6, "third": 8}),
        (Reused(), {"stem": 8}),
        (TwoHeads(), {"body": 6}),
        (Transformer(), {"encoder.layers.0.linear1": 12}),  # the stream through attention and LayerNorm stays whole
        (Grouped(), {"last": 8}),
        (Recurrent(), {"wide": 10}),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_what_cannot_be_cut_exactly_is_left_alone(model, expected):
    found = groups(model, IMAGE, l2)
    assert sorted(group.channels for group in found) == sorted(expected.values())
    for group in found:
        before = parameters(model)
        remove_(model, IMAGE, {group.name: [0]})
        assert parameters(model) < before and model(X).shape == (5, 3)


class OnlyRecurrent(Recurrent):
    """All that comes before the output goes through the LSTM."""

    def forward(self, x):
        return self.head(self.lstm(self.embed(x[:, 0]))[0][:, -1])


def test_a_model_tied_to_an_lstm_names_it():
    model = OnlyRecurrent()
    model.head = nn.Linear(12, 3)
    message = (
        r"^prune: no layer can lose channels: all are tied to an LSTM, which cannot be cut; use pattern unstructured"
    )
    with pytest.raises(ValueError, match=message):
        groups(model, IMAGE, l2)


@pytest.mark.parametrize("model", [nn.ReLU(), nn.Sequential(nn.Flatten(), nn.Linear(64, 3))])
def test_a_model_without_anything_to_cut_says_so(model):
    with pytest.raises(ValueError, match=r"^prune: .*no .*convolution or linear layer"):
        groups(model, IMAGE, l1)


def test_a_model_that_cannot_be_traced_names_the_way_out():
    class Broken(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(64, 3)

        def forward(self, x):
            raise ValueError("wants\nmore")

    with pytest.raises(ValueError, match=r"cannot be traced \(the model itself: wants more\); use pattern unst"):
        groups(Broken(), IMAGE, l1)


class ThroughNumPy(nn.Module):
    """What comes before it cannot be seen from the output."""

    def __init__(self):
        super().__init__()
        self.body, self.wide, self.head = nn.Linear(64, 8), nn.Linear(8, 6), nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.wide(torch.from_numpy(self.body(x.flatten(1)).detach().numpy())).relu())


def test_layers_behind_a_step_without_gradient_stay_whole_and_are_named():
    model = ThroughNumPy()
    reason = "a missing gradient from the output, as by detach() or NumPy"
    assert obstacles(model, IMAGE) == {"body": reason}
    assert [group.name for group in groups(model, IMAGE, l2)] == ["wide"]
    with pytest.raises(NothingToCut, match=r"^prune: no layer can lose channels: all are tied to a missing gradient"):
        groups(model, IMAGE, l2, leave={model.wide})


class Circular(nn.Module):
    """Its padding writes into slices, which sends torch-pruning round in circles."""

    def __init__(self):
        super().__init__()
        self.make = nn.Conv1d(8, 6, 3)
        self.read = nn.Conv1d(6, 5, 3, padding=1, padding_mode="circular")
        self.head = nn.Linear(5, 3)

    def forward(self, x):
        return self.head(self.read(self.make(x[:, 0]).relu()).relu().mean(2))


@pytest.mark.parametrize(
    "work",
    [
        lambda model: groups(model, IMAGE, l1),
        lambda model: remove_(model, IMAGE, {"make": [0]}),
        lambda model: readers(Graph(model, IMAGE), "make", [0]),
    ],
    ids=["groups", "remove", "readers"],
)
def test_an_operation_that_would_be_traced_for_ever_is_named(work):
    message = (
        r"^prune: the model cannot be traced \(it writes into part of a tensor, as circular padding does\); use pat"
    )
    with pytest.raises(ValueError, match=message):
        work(Circular())


def test_emptying_a_layer_is_refused():
    with pytest.raises(ValueError, match=r"4 channels of body\.0\.0 would leave a layer empty"):
        remove_(CNN(IMAGE, 3, (4, 6), (2, 2)), IMAGE, {"body.0.0": [0, 1, 2, 3]})
