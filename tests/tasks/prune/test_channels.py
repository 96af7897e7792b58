from copy import deepcopy

import pytest
import torch
from torch import nn
from toy import stirred

from tasks.measure.size import macs, nonzero, parameters
from tasks.models.cnn import CNN
from tasks.models.mlp import MLP
from tasks.models.resnet import ResNet
from tasks.params import ChannelPruning
from tasks.prune.channels import Group, groups, remove_
from tasks.prune.criteria import CRITERIA, l1, l2
from tasks.prune.structured import scan, shrink_, weakest

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
            parameter[channels] = 0


def assert_cut_keeps_outputs(model, silenced, name, channels):
    model = stirred(model)
    for layer in silenced:
        silence_(model.get_submodule(layer), channels)
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
    ],
    ids=["cnn_first", "cnn_last", "mlp", "flatten", "residual_stream", "residual_inner"],
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


def test_l1_and_l2_disagree_where_they_should():
    units = torch.tensor([[1.0, -1, 1, -1], [0, 0, 3, 0]])
    assert l1(units).tolist() == [4, 3] and l2(units).tolist() == [4, 9]


@pytest.mark.parametrize("name", CRITERIA)
def test_any_criterion_is_zero_for_nothing_grows_with_the_weights_and_leaves_them_alone(name):
    units = torch.randn(6, 10, generator=torch.Generator().manual_seed(0))
    before = units.clone()
    scores = CRITERIA[name](units)
    assert scores.shape == (6,) and (scores > 0).all() and torch.equal(units, before)
    assert (CRITERIA[name](2 * units) > scores).all()
    assert (CRITERIA[name](torch.zeros(2, 3)) == 0).all()
    torch.testing.assert_close(CRITERIA[name](-units.flip(1)), scores)


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

    with pytest.raises(ValueError, match=r"cannot be traced \(wants more\); use pattern unstructured"):
        groups(Broken(), IMAGE, l1)


def test_emptying_a_layer_is_refused():
    with pytest.raises(ValueError, match=r"4 channels of body\.0\.0 would leave a layer empty"):
        remove_(CNN(IMAGE, 3, (4, 6), (2, 2)), IMAGE, {"body.0.0": [0, 1, 2, 3]})


def params(target=0.5, **more):
    return ChannelPruning.model_validate({"pattern": "channel", "target": {"macs": target}, **more})


def score(model):
    """A stand-in for the validation loss: what the outputs sum to."""
    with torch.no_grad():
        return -float(model(X).sum()), 0.0


def shrunk(model, settings, shares=(1.0,)):
    before = deepcopy(model.state_dict())
    points = scan(model, settings, IMAGE, score)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    left, dense = [], macs(model, IMAGE)
    for masks in shrink_(model, settings, IMAGE, points, score(model)[0], shares):
        assert masks == {}
        left.append(macs(model, IMAGE) / dense)
    return points, left


@pytest.mark.parametrize(
    "model", [CNN(IMAGE, 3, (16, 24), (2, 2)), ResNet(IMAGE, 3, (8, 16, 16)), MLP(IMAGE, 3, (32, 16))]
)
@pytest.mark.parametrize("criterion", CRITERIA)
def test_the_target_is_met_in_steps_and_what_stays_is_a_multiple_of_round_to(model, criterion):
    model = stirred(deepcopy(model))
    _, left = shrunk(model, params(0.5, criterion={"method": criterion}), shares=(0.5, 1.0))
    assert 0.2 < left[1] <= 0.5 < left[0] < 1
    outputs = [layer.weight.shape[0] for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert outputs[-1] == 3 and all(channels % 4 == 0 for channels in outputs[:-1])
    assert model(X).shape == (5, 3)


def test_the_scan_has_one_point_per_layer_and_ratio():
    points, _ = shrunk(stirred(CNN(IMAGE, 3, (8, 8), (2, 2))), params(0.6, sensitivity={"ratios": [0.25, 0.5]}))
    assert [(point.layer, point.ratio) for point in points] == [
        *(("body.0.0", ratio) for ratio in (0.25, 0.5)),
        *(("body.1.0", ratio) for ratio in (0.25, 0.5)),
    ]


def test_an_unreachable_target_says_the_best_that_was_found():
    model = stirred(CNN(IMAGE, 3, (8, 8), (2, 2)))
    best = (9 * 4 * 16 + 9 * 16 * 4 + 12) / (9 * 8 * 16 + 9 * 64 * 4 + 24)  # half of either layer
    with pytest.raises(ValueError, match=rf"^prune.target is 0.1; the largest ratios scanned leave {best:.3f}; raise"):
        shrunk(model, params(0.1, sensitivity={"ratios": [0.5]}))
