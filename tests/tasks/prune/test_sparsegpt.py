"""SparseGPT against brute force, against magnitude, and as patterns use it."""

import numpy as np
import pytest
import torch
from networks import Transformer
from torch import nn
from toy import blobs, pictures, stirred

from tasks.data.batches import Samples
from tasks.models.cnn import CNN
from tasks.models.mlp import MLP
from tasks.params import UnstructuredPruning
from tasks.params.prune import NmPruning
from tasks.prune.evidence import Evidence, input_grams, patches
from tasks.prune.sparsegpt import solve_
from tasks.prune.unstructured import masks, n_m_mask, scan, shrink_, weights

SHAPE = (1, 8, 8)


def correlated(rows, columns, seed):
    """Inputs that can stand in for each other."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(columns, columns, generator=generator)
    return torch.randn(rows, columns, generator=generator) @ mixing + 0.5


def drawn(rows, columns, seed):
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(100 + seed))


def settings(sparsity):
    return UnstructuredPruning.model_validate(
        {"pattern": "unstructured", "target": {"sparsity": sparsity}, "criterion": {"method": "sparsegpt"}}
    )


def lowest(drop):
    def choose(scores, start):
        keep = torch.ones(scores.numel(), dtype=torch.bool)
        keep[scores.flatten().argsort(stable=True)[:drop]] = False
        return keep.view_as(scores)

    return choose


def ridged(inputs):
    """Rows that stand for the ridge, so that plain least squares has it too."""
    gram = inputs.double().T @ inputs.double()
    return torch.cat([inputs.double(), (0.01 * gram.diagonal().mean()).sqrt() * torch.eye(len(gram)).double()]), gram


def refitted(rows, weight, gone):
    """Least squares for one output without the input `gone`, where only the inputs after it may change."""
    after = range(gone + 1, len(weight))
    lost = rows[:, gone] * weight[gone]
    change = torch.linalg.lstsq(rows[:, list(after)], lost[:, None]).solution[:, 0] if len(after) else torch.zeros(0)
    found = weight.clone()
    found[gone] = 0
    found[gone + 1 :] += change
    return found, float((rows @ (found - weight)).square().sum())


@pytest.mark.parametrize("seed", range(8))
def test_one_weight_is_the_one_that_brute_force_drops_and_the_others_are_least_squares(seed):
    rows, gram = ridged(correlated(40, 6, seed))
    weight = drawn(1, 6, seed)
    tried = [refitted(rows, weight[0].double(), gone) for gone in range(6)]
    best = min(range(6), key=lambda gone: tried[gone][1])
    keep = solve_(weight, gram, [6], lowest(1))
    assert keep[0].tolist() == [place != best for place in range(6)]
    torch.testing.assert_close(weight[0], tried[best][0].float(), rtol=1e-4, atol=1e-5)


def test_several_inputs_gone_at_the_front_leave_the_least_squares_of_the_rest():
    rows, gram = ridged(correlated(50, 7, 0))
    weight = drawn(3, 7, 0)
    wanted = rows @ weight.double().T
    best = torch.linalg.lstsq(rows[:, 3:], wanted).solution.T
    solve_(weight, gram, [7], lambda scores, _: (torch.arange(7) >= 3).expand(3, 7))
    assert (weight[:, :3] == 0).all()
    torch.testing.assert_close(weight[:, 3:], best.float(), rtol=1e-4, atol=1e-4)


def rows_of(inputs):
    labels = np.zeros(len(inputs), dtype=np.int64)
    return Samples(inputs.numpy(), labels, np.arange(len(inputs)))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
def test_a_linear_layer_answers_closer_than_by_magnitude(seed, share):
    inputs, weight = correlated(300, 20, seed).relu(), drawn(12, 20, seed)  # as an activation leaves them
    layer = nn.Linear(20, 12, bias=False)
    layer.weight.data.copy_(weight)
    next(shrink_(nn.Sequential(layer), settings(share), Evidence((20,), None, rows_of(inputs)), (1.0,)))
    by_size = weight * masks({"w": weight.abs()}, share)["w"]
    assert int((layer.weight == 0).sum()) == int((by_size == 0).sum()) == round(share * 240)
    errors = [float((inputs @ (own - weight).T).square().sum()) for own in (layer.weight.detach(), by_size)]
    assert errors[0] < errors[1]


def test_later_blocks_rank_weights_as_the_earlier_ones_have_left_them():
    inputs = correlated(200, 8, 3)
    inputs[:, 4] = inputs[:, 0] + 0.01 * drawn(200, 1, 9)[:, 0]  # stands in for the first
    weight = torch.tensor([[3.0, 0, 0, 0, 0.01, 0.5, 0.5, 0.5]])
    keep = solve_(weight, ridged(inputs)[1], [4, 4], lambda scores, start: lowest(4 if start == 0 else 2)(scores, 0))
    assert keep[0, 4] and weight[0, 4] == pytest.approx(3, abs=0.4)


def answered(model, inputs):
    with torch.no_grad():
        return model.eval()(inputs)


@pytest.mark.parametrize("share", [0.37, 0.9])
def test_every_layer_loses_exactly_the_sparsity_and_repeats(share):
    found = []
    for _ in range(2):
        model = stirred(CNN(SHAPE, 3, (20, 10), (2, 2)))  # the second layer has more than one block of columns
        keep = list(shrink_(model, settings(share), Evidence(SHAPE, None, pictures()), (0.5, 1.0)))[-1]
        for name, weight in weights(model).items():
            assert int((weight == 0).sum()) == int((~keep[name]).sum()) == round(share * weight.numel())
            assert (weight[~keep[name]] == 0).all()
        found.append(model.state_dict())
    assert all(torch.equal(tensor, found[1][name]) for name, tensor in found[0].items())


def test_of_convolutions_too_n_of_every_m_channels_stay():
    model = stirred(CNN(SHAPE, 3, (8, 8), (2, 2)))
    params = NmPruning.model_validate({"pattern": "n_m", "criterion": {"method": "sparsegpt"}})
    keep = next(shrink_(model, params, Evidence(SHAPE, None, pictures()), (1.0,)))
    assert "body.0.0.weight" not in keep  # one channel only
    for name in ("body.1.0.weight", "head.weight"):
        assert torch.equal(weights(model)[name] != 0, keep[name])
        assert (keep[name].movedim(1, -1).reshape(-1, 4).sum(1) == 2).all()


@pytest.mark.parametrize("pattern", ["unstructured", "n_m"])
def test_a_convolution_answers_closer_than_by_magnitude(pattern):
    torch.manual_seed(0)
    layer = nn.Conv2d(8, 6, 3, padding=1)
    inputs = torch.nn.functional.avg_pool2d(torch.randn(40, 8, 12, 12), 3, stride=1)
    wanted, dense = answered(layer, inputs), layer.weight.detach().clone()
    common = {"pattern": pattern, "criterion": {"method": "sparsegpt"}, "recalibrate": False}
    model = nn.Sequential(layer)
    params = (
        settings(0.5).model_copy(update={"recalibrate": False})
        if pattern == "unstructured"
        else NmPruning.model_validate(common)
    )
    next(shrink_(model, params, Evidence((8, 12, 12), None, rows_of(inputs)), (1.0,)))
    fitted = (answered(layer, inputs) - wanted).square().sum()
    size = dense.abs()
    keep = masks({"w": size}, 0.5)["w"] if pattern == "unstructured" else n_m_mask(size, 2, 4)
    with torch.no_grad():
        layer.weight.copy_(dense * keep)
    assert fitted < 0.8 * (answered(layer, inputs) - wanted).square().sum()


def test_the_gram_of_a_convolution_is_that_of_its_patches():
    layer, samples = nn.Conv2d(1, 2, 3, padding=1), pictures()
    rows = patches(layer, torch.from_numpy(samples.x[samples.indices])).double()
    torch.testing.assert_close(input_grams(layer, samples, [layer])[layer], rows.T @ rows)


def test_what_cannot_be_solved_is_named():
    torch.manual_seed(0)
    grouped = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3, groups=2), nn.Flatten(), nn.Linear(64, 3))
    with pytest.raises(ValueError, match=r"^prune.criterion sparsegpt: '1' is a Conv2d in groups; put it in prune.ig"):
        next(shrink_(grouped, settings(0.5), Evidence(SHAPE, None, pictures()), (1.0,)))
    with pytest.raises(ValueError, match=r"^prune.criterion sparsegpt: needs training samples"):
        next(shrink_(MLP((4,), 3), settings(0.5), Evidence((4,), None), (1.0,)))
    with pytest.raises(ValueError, match=r"^prune.criterion: no input reaches 'encoder.layers.0.self_attn.out_proj'"):
        next(shrink_(Transformer(), settings(0.5), Evidence(SHAPE, None, pictures()), (1.0,)))


def test_arguments_besides_the_weights_stay():
    gram = ridged(correlated(30, 5, 1))[1]
    before = gram.clone()
    solve_(drawn(2, 5, 1), gram, [5], lowest(4))
    assert torch.equal(gram, before)


def test_inputs_that_are_always_zero_go_first():
    inputs = correlated(60, 6, 2)
    inputs[:, 2] = 0
    weight = drawn(1, 6, 2)
    keep = solve_(weight, ridged(inputs)[1], [6], lowest(1))
    assert not keep[0, 2] and torch.isfinite(weight).all()


def test_the_scan_solves_one_layer_at_a_time_and_leaves_the_model_alone():
    model = MLP((4,), 3, hidden=(12, 8)).eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    seen = []

    def score(candidate):
        seen.append([float((weight == 0).float().mean()) for weight in weights(candidate).values()])
        return 1.0, 0.5

    scan(model, settings(0.5), Evidence((4,), score, blobs()))
    assert sum(share > 0 for row in seen for share in row) == len(seen) == 9
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
