"""From a target to a smaller model, by every criterion and scope."""

from collections import defaultdict
from copy import deepcopy

import pytest
import torch
from networks import Concatenated, Grouped, Preactivated, Recurrent, Reused, Transformer, Transposed, TwoHeads
from torch import nn
from toy import pictures, stirred

from tasks.measure.size import macs, parameters
from tasks.models.cnn import CNN
from tasks.models.depthwise import DepthwiseCNN
from tasks.models.mlp import MLP
from tasks.models.resnet import ResNet
from tasks.params import ChannelPruning
from tasks.prune.channels import Group, groups
from tasks.prune.criteria import CRITERIA
from tasks.prune.evidence import Evidence
from tasks.prune.structured import filled, kept_channels, scan, shrink_, weakest

IMAGE = (1, 8, 8)
X = torch.rand(5, *IMAGE, generator=torch.Generator().manual_seed(0))
CRITERIA_OF_CHANNELS = ["random", "l1", "l2", "bn_scale", "taylor", "fpgm"]
SCOPES = ["sensitivity", "uniform", "global", "isomorphic"]
NETWORKS = {
    "cnn": CNN(IMAGE, 3, (16, 24), (2, 2)),
    "resnet": ResNet(IMAGE, 3, (8, 16, 16)),
    "mlp": MLP(IMAGE, 3, (32, 16)),
    "depthwise": DepthwiseCNN(IMAGE, 3, (16, 16, 24)),
}


def params(target=0.5, **more):
    return ChannelPruning.model_validate({"pattern": "channel", "target": {"macs": target}, **more})


def score(model):
    """A stand-in for the validation loss: what the outputs sum to."""
    with torch.no_grad():
        return -float(model(X).sum()), 0.0


EVIDENCE = Evidence(IMAGE, score, pictures())


def shrunk(model, settings, shares=(1.0,), evidence=EVIDENCE):
    before = deepcopy(model.state_dict())
    points = scan(model, settings, evidence)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    left, dense = [], macs(model, IMAGE)
    for masks in shrink_(model, settings, evidence, points, score(model)[0], shares):
        assert masks == {}
        left.append(macs(model, IMAGE) / dense)
    return points, left


def widths(model):
    """Of all layers with weights, in order."""
    return [layer.weight.shape[0] for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]


@pytest.mark.parametrize("name", ["cnn", "resnet", "mlp", "depthwise"])
@pytest.mark.parametrize("criterion", CRITERIA_OF_CHANNELS)
def test_the_target_is_met_in_steps_and_what_stays_is_a_multiple_of_round_to(name, criterion):
    model = stirred(deepcopy(NETWORKS[name]))
    settings = params(0.5, criterion={"method": criterion}, sensitivity={"ratios": [0.5, 0.75]})
    _, left = shrunk(model, settings, shares=(0.5, 1.0))
    assert 0.2 < left[1] <= 0.5 < left[0] < 1
    assert widths(model)[-1] == 3 and all(channels % 4 == 0 for channels in widths(model)[:-1])
    assert model(X).shape == (5, 3)


@pytest.mark.parametrize("criterion", CRITERIA_OF_CHANNELS)
@pytest.mark.parametrize("scope", SCOPES)
def test_in_each_layer_the_highest_scores_stay_and_the_same_seed_gives_the_same_model(criterion, scope):
    dense = stirred(CNN(IMAGE, 3, (16, 24), (2, 2)))
    found = {
        group.name: group.scores
        for group in groups(dense, IMAGE, CRITERIA[criterion], samples=EVIDENCE.samples, seed=EVIDENCE.seed)
    }
    settings = params(0.5, criterion={"method": criterion}, scope=scope, round_to=1, recalibrate=False)
    models = [deepcopy(dense) for _ in range(2)]
    for model in models:
        shrunk(model, settings)
    assert torch.equal(models[0](X), models[1](X))
    inputs = [0]
    for name, scores in found.items():
        kept, own = models[0].get_submodule(name).weight, dense.get_submodule(name).weight[:, inputs]
        stays = [bool((kept == filters).flatten(1).all(1).any()) for filters in own]
        assert 0 < sum(stays) == len(kept) < len(stays)
        stays = torch.tensor(stays)
        assert scores[~stays].max() <= scores[stays].min()
        inputs = stays.nonzero().flatten().tolist()


def test_by_scope_uniform_every_layer_loses_the_same_share():
    model = stirred(CNN(IMAGE, 3, (16, 24), (2, 2)))
    shrunk(model, params(0.5, scope="uniform", round_to=1))
    assert widths(model)[0] / 16 == pytest.approx(widths(model)[1] / 24, abs=0.05)


def scored(model, criterion):
    """Its groups, as the params above see them."""
    return groups(model, IMAGE, CRITERIA[criterion], samples=EVIDENCE.samples, seed=EVIDENCE.seed)


@pytest.mark.parametrize("criterion", CRITERIA_OF_CHANNELS)
def test_by_scope_global_no_channel_that_goes_beats_one_that_stays(criterion):
    """The first layer's are ten times as large; scores that do not compare are taken relative to their layer's mean."""
    model = stirred(CNN(IMAGE, 3, (16, 24), (2, 2)))
    with torch.no_grad():
        model.body[0][1].weight.mul_(10)
        model.body[0][0].weight.mul_(10)
    found = [group.scores.sort().values for group in scored(model, criterion)]
    if criterion != "bn_scale":
        found = [scores / scores.mean() for scores in found]
    shrunk(model, params(0.6, scope="global", round_to=1, criterion={"method": criterion}, recalibrate=False))
    kept = [scores[-width:] for scores, width in zip(found, widths(model), strict=False)]
    gone = [scores[:-width] for scores, width in zip(found, widths(model), strict=False)]
    assert torch.cat(gone).max() <= torch.cat(kept).min()
    if criterion in ("bn_scale", "l2"):
        assert (len(gone[0]) == 0) == (criterion == "bn_scale")


@pytest.mark.parametrize("criterion", CRITERIA_OF_CHANNELS)
def test_by_scope_isomorphic_channels_compete_with_their_kind_alone(criterion):
    """Stem, residual stream and inside of the residual block are three kinds; both insides are one."""
    model = stirred(ResNet(IMAGE, 3, (8, 16, 16)))
    with torch.no_grad():
        for layer in (model.body[2].body[0][0], model.body[2].body[0][1]):
            layer.weight.mul_(0.1)  # so that the first inside gives all that the kind gives
    found = scored(model, criterion)
    dense = deepcopy(model)
    shrunk(model, params(0.75, scope="isomorphic", round_to=1, criterion={"method": criterion}, recalibrate=False))
    kept, gone = defaultdict(list), defaultdict(list)
    for group in found:
        stays = model.get_submodule(group.name).weight.shape[0]
        ranked = group.scores.sort().values
        gone[group.kind] += ranked[: len(ranked) - stays].tolist()
        kept[group.kind] += ranked[len(ranked) - stays :].tolist()
    inner = [group.kind for group in found if group.name.endswith("body.0.0") and group.name != "body.0.0"]
    assert len(inner) == 2 and len(set(inner)) == 1 and len(kept) == 3
    assert all(max(gone[kind]) <= min(kept[kind]) for kind in kept if gone[kind])
    shares = [len(gone[kind]) / (len(gone[kind]) + len(kept[kind])) for kind in kept]
    assert max(shares) - min(shares) <= 1 / 8
    assert model.body[2].body[0][0].weight.shape[0] < dense.body[2].body[0][0].weight.shape[0]


@pytest.mark.parametrize("scope", SCOPES)
def test_a_share_of_the_parameters_can_be_the_target(scope):
    model = stirred(deepcopy(NETWORKS["resnet"]))
    dense = parameters(model)
    shrunk(model, ChannelPruning.model_validate({"pattern": "channel", "scope": scope, "target": {"parameters": 0.4}}))
    assert 0.2 < parameters(model) / dense <= 0.4


@pytest.mark.parametrize(
    ("model", "target"),
    [
        (Concatenated(), 0.7),
        (Reused(), 0.7),
        (Preactivated(), 0.7),
        (Transposed(), 0.7),
        (Grouped(), 0.95),
        (TwoHeads(), 0.7),
        (Transformer(), 0.85),  # its feed-forward units
        (Recurrent(), 0.995),  # what follows the LSTM, which itself is left alone
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
@pytest.mark.parametrize("scope", SCOPES)
def test_nets_with_branches_reuse_attention_and_recurrence_shrink(model, target, scope):
    model = stirred(deepcopy(model))
    _, left = shrunk(model, params(target, scope=scope, round_to=1))
    assert left[0] <= target and model(X).shape == (5, 3)


@pytest.mark.parametrize("criterion", ["l1", "l2", "bn_scale", "taylor"])
def test_channels_that_are_zero_go_first_and_nobody_notices(criterion):
    model = stirred(CNN(IMAGE, 3, (16, 24), (2, 2)))
    with torch.no_grad():
        for conv, norm, _ in model.body:
            for tensor in (conv.weight, norm.weight, norm.bias):
                tensor[::2] = 0
        model.body[1][0].weight[:, ::2] = 0
        model.head.weight[:, ::2] = 0
    before = model(X)
    settings = params(0.35, criterion={"method": criterion}, scope="uniform", recalibrate=False)
    _, left = shrunk(model, settings)
    assert widths(model) == [8, 12, 3] and left[0] == pytest.approx(0.28, abs=0.05)
    torch.testing.assert_close(model(X), before)


def test_the_scan_has_one_point_per_layer_and_ratio():
    settings = params(0.6, sensitivity={"ratios": [0.25, 0.5]})
    points, _ = shrunk(stirred(CNN(IMAGE, 3, (8, 8), (2, 2))), settings)
    assert [(point.layer, point.ratio) for point in points] == [
        *(("body.0.0", ratio) for ratio in (0.25, 0.5)),
        *(("body.1.0", ratio) for ratio in (0.25, 0.5)),
    ]


def test_an_unreachable_target_says_the_best_that_was_found():
    model = stirred(CNN(IMAGE, 3, (8, 8), (2, 2)))
    best = (9 * 4 * 16 + 9 * 16 * 4 + 12) / (9 * 8 * 16 + 9 * 64 * 4 + 24)  # half of either layer
    with pytest.raises(ValueError, match=rf"^prune.target is 0.1; the largest ratios scanned leave {best:.3f}; raise"):
        shrunk(model, params(0.1, sensitivity={"ratios": [0.5]}))


@pytest.mark.parametrize("scope", ["uniform", "global"])
def test_one_that_no_ratio_reaches_says_the_smallest_there_is(scope):
    model = stirred(CNN(IMAGE, 3, (8, 8), (2, 2)))
    best = (9 * 4 * 16 + 9 * 16 * 4 + 12) / (9 * 8 * 16 + 9 * 64 * 4 + 24)  # four channels in either layer
    message = rf"^prune.target is 0.1; the smallest that its layers can be leaves {best:.3f}; raise it, lower round_to"
    with pytest.raises(ValueError, match=message):
        shrunk(model, params(0.1, scope=scope))


def test_what_rounding_took_too_much_is_given_back_to_the_layer_that_is_then_least_above_its_plan():
    found = [Group("small", torch.ones(16)), Group("large", torch.ones(64))]

    def kept(ratios):
        return [kept_channels(group.channels, ratios[group.name], 8) for group in found]

    def cost(ratios):
        return sum(kept(ratios)) / 80

    plan = {"small": 0.3, "large": 0.3}  # 11.2 and 44.8 channels, of which rounding leaves 8 and 48
    assert kept(plan) == [8, 48]
    assert kept(filled(plan, found, 8, cost, 0.79)) == [8, 48]  # 63 fit
    assert kept(filled(plan, found, 8, cost, 0.8)) == [8, 56]
    assert kept(filled(plan, found, 8, cost, 0.95)) == [16, 56]  # all 64 would be further above 44.8 of 64
    assert kept(filled(plan, found, 8, cost, 1.0)) == [16, 64]
    # where the large one cannot be raised, the small one is
    assert kept(filled(plan, found, 8, lambda ratios: cost(ratios) + (kept(ratios)[1] > 48), 0.95)) == [16, 48]


@pytest.mark.parametrize("scope", SCOPES)
def test_no_multiple_of_channels_more_fits_the_target(scope):
    model = stirred(CNN(IMAGE, 3, (16, 24, 32), (1, 2, 1)))
    whole, target = macs(model, IMAGE), 0.5
    shrunk(model, params(target, scope=scope, round_to=4))
    left = macs(model, IMAGE)
    assert left <= target * whole
    for place, full in enumerate((16, 24, 32)):
        wider = widths(model)[:3]
        if wider[place] < full:
            wider[place] += 4
            more = CNN(IMAGE, 3, tuple(wider), (1, 2, 1))
            assert macs(more, IMAGE) > target * whole


@pytest.mark.parametrize(
    ("more", "whole"),
    [
        ({"ignore": ["body.0"]}, [0]),  # a block stands for its layers
        ({"ignore": ["body.1.0"]}, [1]),
        ({"protect": {"first": True}}, [0]),
        ({"protect": {"last": True}}, [2]),
        ({"protect": {"first": True, "last": True}}, [0, 2]),
    ],
)
def test_layers_to_leave_alone_keep_all_their_channels(more, whole):
    model = stirred(CNN(IMAGE, 3, (16, 12, 20), (2, 2, 1)))
    _, left = shrunk(model, params(0.75, **more))
    kept = {place for place, (now, then) in enumerate(zip(widths(model), (16, 12, 20), strict=False)) if now == then}
    assert set(whole) <= kept < {0, 1, 2} and left[0] <= 0.75


def test_a_name_that_does_not_exist_brings_the_nearest():
    message = r"^prune.ignore: the model has no layer 'boddy.1.0'; near it: 'body.1.0', .*"
    with pytest.raises(ValueError, match=message):
        shrunk(deepcopy(NETWORKS["cnn"]), params(ignore=["boddy.1.0"]))


def test_a_name_like_none_of_the_model_s_brings_what_there_is():
    message = r"^prune.ignore: the model has no layer 'zzz'; it has 'body', 'body.0', .* and \d+ more$"
    with pytest.raises(ValueError, match=message):
        shrunk(deepcopy(NETWORKS["cnn"]), params(ignore=["zzz"]))


def test_leaving_everything_alone_says_why_nothing_is_left_to_cut():
    with pytest.raises(ValueError, match=r"that prune\.ignore and prune\.protect do not keep; keep fewer$"):
        shrunk(deepcopy(NETWORKS["cnn"]), params(ignore=["body"]))


def test_weakest_and_kept_agree_on_how_many_go():
    (group, _) = groups(NETWORKS["cnn"], IMAGE, CRITERIA["l2"])
    assert len(weakest(group, kept_channels(16, 0.5, 4))) == 8
