"""What each criterion says of units by hand, what must not matter to it, and taylor against the truth."""

from copy import deepcopy
from functools import cache

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F
from toy import blobs

from tasks.data.batches import Samples
from tasks.measure.accuracy import loss_and_accuracy
from tasks.models.cnn import CNN
from tasks.models.resnet import ResNet
from tasks.params import Train
from tasks.prune.channels import groups, remove_
from tasks.prune.criteria import CRITERIA, Units, fpgm, l1, l2, lamp, random, sparsegpt, taylor, wanda
from tasks.prune.evidence import input_changes, input_norms, weight_changes
from tasks.training.loop import fit_

# random and fpgm do not grow with a unit's own weights
BY_SIZE = ["l1", "l2", "bn_scale", "lamp"]


def units(count=6, size=10, seed=0):
    """Everything a criterion may ask for."""
    generator = torch.Generator().manual_seed(seed)
    return Units(
        torch.randn(count, size, generator=generator),
        change=torch.randn(20, count, generator=generator),
        inputs=torch.rand(count, generator=generator),
        generator=torch.Generator().manual_seed(seed),
    )


@pytest.mark.parametrize("name", CRITERIA)
def test_any_criterion_gives_one_score_each_leaves_its_argument_alone_and_repeats(name):
    given, again = units(), units()
    scores = CRITERIA[name](given)
    assert scores.shape == (6,) and scores.dtype == torch.float32 and (scores >= 0).all()
    assert len(scores.unique()) == 6
    for field in ("weights", "change", "inputs"):
        assert torch.equal(getattr(given, field), getattr(again, field))
    assert torch.equal(CRITERIA[name](again), scores)


@pytest.mark.parametrize("name", sorted(set(CRITERIA) - {"random"}))
def test_the_order_of_the_units_does_not_matter(name):
    given, order = units(), torch.tensor([3, 0, 5, 1, 4, 2])
    shuffled = Units(given.weights[order], given.change[:, order], given.inputs[order])
    torch.testing.assert_close(CRITERIA[name](shuffled), CRITERIA[name](given)[order])


@pytest.mark.parametrize("name", BY_SIZE)
def test_nothing_is_worth_nothing_and_the_sign_does_not_matter(name):
    weights = units().weights
    weights[2] = 0
    scores = CRITERIA[name](Units(weights))
    assert scores[2] == 0 and (scores[torch.arange(6) != 2] > 0).all()
    torch.testing.assert_close(CRITERIA[name](Units(-weights.flip(1))), scores)


def test_l1_and_l2_disagree_where_they_should():
    two = Units(torch.tensor([[1.0, -1, 1, -1], [0, 0, 3, 0]]))
    assert l1(two).tolist() == [4, 3] and l2(two).tolist() == [4, 9]


def test_fpgm_by_hand_the_largest_filter_may_be_the_one_to_go():
    filters = torch.tensor([[0.0, 0], [3, 4], [6, 8]])  # on a line, five apart
    assert fpgm(Units(filters)).tolist() == [15, 10, 15]
    torch.testing.assert_close(fpgm(Units(filters + 7)), fpgm(Units(filters)))  # the same for all of them


def test_lamp_golden_values_of_the_reference_implementation():
    weights = torch.tensor([[1.0, -2, 3], [0.5, -4, 2.5]])
    expected = [0.027586, 0.113475, 0.36, 0.006849, 1, 0.2]
    assert lamp(Units(weights.reshape(-1, 1))).tolist() == pytest.approx(expected, abs=1e-6)


def test_lamp_treats_equals_alike_ignores_a_layer_s_scale_and_never_drops_its_largest_first():
    weights = torch.tensor([2.0, -1, 1, 0, 0])[:, None]
    assert lamp(Units(weights)).tolist() == pytest.approx([1, 1 / 6, 1 / 6, 0, 0])
    torch.testing.assert_close(lamp(Units(weights * 1e-3)), lamp(Units(weights)))


def test_wanda_by_hand_the_input_decides_against_the_weight():
    weights, norm = torch.tensor([[1.0, -4.0], [3.0, 2.0]]), torch.tensor([10.0, 1.0])
    found = wanda(Units(weights.reshape(-1, 1), inputs=norm.expand_as(weights).reshape(-1)))
    assert found.tolist() == [10, 4, 30, 2]


def test_random_repeats_with_its_seed_only():
    draws = [random(units(seed=seed)).tolist() for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]


@pytest.mark.parametrize(
    ("criterion", "needs"),
    [
        (taylor, "change of the loss"),
        (wanda, "norms of the layer's inputs"),
        (sparsegpt, "norms of the layer's inputs"),
    ],
)
def test_what_is_not_known_is_named(criterion, needs):
    with pytest.raises(ValueError, match=f"^{criterion.__name__}: needs the {needs}"):
        criterion(Units(torch.ones(2, 1)))


def test_input_norms_by_hand():
    layer = nn.Linear(4, 3)
    samples = blobs(300)  # three batches
    expected = torch.from_numpy(samples.x).square().sum(0).sqrt()
    torch.testing.assert_close(input_norms(layer, samples, [layer])[layer], expected.expand(3, 4))


def perceptron():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))


def test_weight_changes_are_the_weights_times_the_gradient_of_the_mean_loss():
    model, samples = perceptron(), blobs(300)
    found = weight_changes(model, samples, dict(model.named_parameters()))
    assert all(parameter.grad is None for parameter in model.parameters())
    F.cross_entropy(model(torch.from_numpy(samples.x)), torch.from_numpy(samples.y)).backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found[name], parameter.detach() * parameter.grad)


def test_input_changes_sum_to_what_the_weights_that_read_them_say():
    """A channel that is read as zero, or the weights that read it at zero: to first order the same."""
    model, samples = perceptron(), blobs(300)
    by_sample = input_changes(model, samples, [model[2]])[model[2]]
    assert by_sample.shape == (300, 6)
    by_weight = weight_changes(model, samples, {"": model[2].weight})[""]
    torch.testing.assert_close(by_sample.sum(0), by_weight.sum(0))


@cache
def digits():
    found = load_digits()
    x, y = (found.images[:, None] / 16).astype(np.float32), found.target.astype(np.int64)
    return Samples(x, y, np.arange(600))


def trained(seed, build):
    torch.manual_seed(seed)
    model = build()
    fit_(model, digits(), digits(), Train(epochs=4, batch_size=32, lr=0.01), seed=seed, series="digits")
    return model


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    "build",
    [lambda: ResNet((1, 8, 8), 10, (16, 24)), lambda: CNN((1, 8, 8), 10, (12, 16), (1, 2))],
    ids=["residual", "plain"],
)
def test_taylor_ranks_channels_as_the_loss_without_each_of_them_does(seed, build):
    model, shape = trained(seed, build), (1, 8, 8)
    baseline, _ = loss_and_accuracy(model, digits())
    found = {name: groups(model, shape, CRITERIA[name], samples=digits().first(256, 0)) for name in ("taylor", "l2")}
    rises = []
    for group in found["taylor"]:
        for channel in range(group.channels):
            without = deepcopy(model)
            remove_(without, shape, {group.name: [channel]})
            rises.append(loss_and_accuracy(without, digits())[0] - baseline)
    agreement = {name: spearmanr(torch.cat([group.scores for group in own]), rises)[0] for name, own in found.items()}
    assert agreement["taylor"] >= 0.9 > agreement["l2"]
