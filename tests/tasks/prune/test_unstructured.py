import pytest
import torch
from networks import Transformer
from torch import nn
from toy import blobs, pictures, stirred

from tasks.models.cnn import CNN
from tasks.models.mlp import MLP
from tasks.params import UnstructuredPruning
from tasks.params.prune import NmPruning
from tasks.prune.criteria import CRITERIA, wanda
from tasks.prune.evidence import Evidence
from tasks.prune.unstructured import apply_, masks, n_m_mask, notes, scan, shrink_, weight_scores, weights

SHAPE = (1, 8, 8)
CRITERIA_OF_WEIGHTS = ["random", "l1", "l2", "taylor", "lamp", "wanda"]
EVIDENCE = Evidence(SHAPE, lambda model: (1.0, 0.5), pictures())


X = torch.rand(5, 4, generator=torch.Generator().manual_seed(0))


def network():
    torch.manual_seed(0)
    return CNN(SHAPE, 3, (6, 10), (2, 2))


def perceptron():
    torch.manual_seed(0)
    return MLP((4,), 3, hidden=(12, 8)).eval()


def settings(sparsity=0.7, **more):
    return UnstructuredPruning.model_validate({"pattern": "unstructured", "target": {"sparsity": sparsity}, **more})


def n_m(n=2, m=4, **more):
    return NmPruning.model_validate({"pattern": "n_m", "n": n, "m": m, **more})


def sparsity(model):
    return sum(int((weight == 0).sum()) for weight in weights(model).values())


@pytest.mark.parametrize("name", CRITERIA_OF_WEIGHTS)
@pytest.mark.parametrize("share", [0.0, 0.1, 0.37, 0.9, 0.999, 1.0])
def test_exactly_the_sparsity_goes_and_no_dropped_score_beats_a_kept_one_in_its_scope(name, share):
    model, evidence = perceptron(), Evidence((4,), None, blobs())
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    scores = weight_scores(model, CRITERIA[name], evidence, weights(model))
    found = masks(scores, share, by_row=name == "wanda")
    if name != "wanda":
        flat = torch.cat([mask.flatten() for mask in found.values()])
        assert int((~flat).sum()) == round(share * len(flat))
    scopes = [
        (own, mask)
        for key in scores
        for own, mask in (zip(scores[key], found[key], strict=True) if name == "wanda" else [(scores[key], found[key])])
    ]
    if name != "wanda":
        scopes = [(torch.cat([own.flatten() for own, _ in scopes]), torch.cat([mask.flatten() for _, mask in scopes]))]
    for own, mask in scopes:
        assert int((~mask).sum()) == pytest.approx(share * mask.numel(), abs=1)
        assert own.masked_fill(mask, -2).max() <= own.masked_fill(~mask, 1e9).min()
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
    again = masks(weight_scores(model, CRITERIA[name], evidence, weights(model)), share, by_row=name == "wanda")
    assert all(torch.equal(found[key], again[key]) for key in found)


@pytest.mark.parametrize("criterion", CRITERIA_OF_WEIGHTS)
@pytest.mark.parametrize("given", ["unstructured", "n_m"])
def test_weights_that_are_zero_go_first_and_nobody_notices(criterion, given):
    """As many are zero in each row, and of every four that follow each other, as will go."""
    model = perceptron()
    with torch.no_grad():
        for weight in weights(model).values():
            weight[:, ::2] = 0
    before, zero = model(X), {name: weight == 0 for name, weight in weights(model).items()}
    more = {"criterion": {"method": criterion}, "recalibrate": False}
    params = settings(0.5, **more) if given == "unstructured" else n_m(**more)
    keep = next(shrink_(model, params, Evidence((4,), None, blobs()), (1.0,)))
    assert torch.equal(model(X), before) and all(torch.equal(~keep[name], own) for name, own in zero.items())


def test_one_threshold_for_all_layers():
    found = masks({"small": torch.tensor([[0.1, 0.2]]), "large": torch.tensor([[3.0], [4.0]])}, 0.5)
    assert found["small"].tolist() == [[False, False]] and found["large"].tolist() == [[True], [True]]


def test_by_row_every_row_loses_its_share_and_the_whole_exactly_that():
    scores = torch.rand(7, 5, generator=torch.Generator().manual_seed(0))
    lost = (~masks({"w": scores}, 0.5, by_row=True)["w"]).sum(1)
    assert set(lost.tolist()) == {2, 3} and lost.sum() == round(0.5 * 35)


@pytest.mark.parametrize("criterion", CRITERIA_OF_WEIGHTS)
def test_by_scope_uniform_each_layer_loses_its_share_and_no_dropped_score_beats_a_kept_one_in_it(criterion):
    model = perceptron()
    with torch.no_grad():
        weights(model)["head.weight"].mul_(100)
    evidence = Evidence((4,), None, blobs())
    scores = weight_scores(model, CRITERIA[criterion], evidence, weights(model))
    params = settings(0.5, criterion={"method": criterion}, scope="uniform", recalibrate=False)
    keep = next(shrink_(model, params, evidence, (1.0,)))
    for name, mask in keep.items():
        assert int((~mask).sum()) == mask.numel() // 2
        rows = zip(scores[name], mask, strict=True) if criterion == "wanda" else [(scores[name], mask)]
        assert all(own[~kept].max() <= own[kept].min() for own, kept in rows)


def test_without_a_scope_wanda_goes_by_rows_and_others_by_one_threshold():
    kinds = {}
    for criterion in ("l1", "wanda"):
        model = perceptron()
        with torch.no_grad():
            weights(model)["head.weight"].mul_(100)
        more = {"criterion": {"method": criterion}, "recalibrate": False}
        keep = next(shrink_(model, settings(0.5, **more), Evidence((4,), None, blobs()), (1.0,)))
        kinds[criterion] = float(keep["head.weight"].float().mean())
    assert kinds == {"l1": 1.0, "wanda": 0.5}


def test_among_equals_still_exactly_the_share_goes():
    assert int(masks({"w": torch.ones(10, 10)}, 0.3)["w"].sum()) == 70


@pytest.mark.parametrize("criterion", ["l1", "random", "taylor", "lamp"])
def test_steps_reach_the_target_exactly_and_never_bring_a_weight_back(criterion):
    model, total = network().eval(), 6 * 9 + 6 * 10 * 9 + 30
    gone = torch.zeros(total, dtype=torch.bool)
    shares = (0.4, 0.8, 1.0)
    steps = shrink_(model, settings(0.7, criterion={"method": criterion}), EVIDENCE, shares)
    for share, keep in zip(shares, steps, strict=True):
        now = ~torch.cat([mask.flatten() for mask in keep.values()])
        assert sparsity(model) == int(now.sum()) == round(share * 0.7 * total)
        assert (now | ~gone).all()
        gone = now


def test_biases_and_batchnorm_stay_as_they_were_without_recalibration():
    model = stirred(network())
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    next(shrink_(model, settings(0.5, recalibrate=False), EVIDENCE, (1.0,)))
    touched = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert touched == set(weights(model))


def test_the_scan_prunes_one_layer_at_a_time_and_leaves_the_model_alone():
    model = stirred(network())
    seen = []

    def score(candidate):
        seen.append([round(float((weight == 0).float().mean()), 2) for weight in weights(candidate).values()])
        return 1.0, 0.5

    points = scan(model, settings(sensitivity={"ratios": [0.5, 0.9]}), Evidence(SHAPE, score))
    assert [(point.layer, point.ratio) for point in points] == [
        (layer, ratio) for layer in ("body.0.0", "body.1.0", "head") for ratio in (0.5, 0.9)
    ]
    assert [layer for row in seen for layer in row].count(0.0) == 12
    assert seen[2] == [0, 0.5, 0] and seen[5] == [0, 0, 0.9] and sparsity(model) == 0


def test_two_of_four_by_hand():
    scores = torch.tensor([[1.0, 4, 3, 2, 9, 8, 7, 6, 0, 0]])
    assert n_m_mask(scores, 2, 4).int().tolist() == [[0, 1, 1, 0, 1, 1, 0, 0, 1, 1]]  # what is left over stays


@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (3, 4), (1, 2), (4, 8)])
@pytest.mark.parametrize("shape", [(5, 16), (3, 8, 3, 3), (2, 24, 5)])
def test_of_every_m_along_the_inputs_the_n_best_stay(shape, n, m):
    scores = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    mask = n_m_mask(scores, m - n, m)
    own, keep = (tensor.movedim(1, -1).reshape(-1, m) for tensor in (scores, mask))
    assert (keep.sum(1) == n).all()
    assert (own.masked_fill(keep, -1).amax(1) <= own.masked_fill(~keep, 2).amin(1)).all()


@pytest.mark.parametrize("criterion", CRITERIA_OF_WEIGHTS)
def test_any_criterion_meets_n_m_in_steps(criterion):
    model = perceptron()
    steps = shrink_(model, n_m(criterion={"method": criterion}), Evidence((4,), None, blobs()), (0.5, 1.0))
    for left in (3, 2):
        keep = next(steps)
        assert all((mask.reshape(-1, 4).sum(1) == left).all() for mask in keep.values())
    assert sparsity(model) == (4 * 12 + 12 * 8 + 8 * 3) / 2


def test_n_m_says_what_it_does_not_gain_and_what_it_leaves_dense():
    speed, dense = notes(network(), n_m(), EVIDENCE)
    assert "no speed on a CPU" in speed and dense == "left dense, as they have fewer than 4 inputs: body.0.0"
    assert len(notes(perceptron(), n_m(), EVIDENCE)) == 1 and "no speed" in notes(network(), settings(), EVIDENCE)[0]


def test_ignored_layers_keep_their_weights():
    model = stirred(network())
    next(shrink_(model, settings(0.5, ignore=["head", "body.0"]), EVIDENCE, (1.0,)))
    zeros = {name: int((weight == 0).sum()) for name, weight in weights(model).items()}
    assert zeros == {"body.0.0.weight": 0, "body.1.0.weight": 270, "head.weight": 0}


def test_wanda_sees_a_convolution_as_the_linear_layer_of_its_patches():
    model = network().eval()
    scores = weight_scores(model, wanda, EVIDENCE, weights(model))["body.1.0.weight"]
    with torch.no_grad():
        inputs = model.body[0](torch.from_numpy(EVIDENCE.samples.x[EVIDENCE.samples.indices]))
    norms = torch.nn.functional.unfold(inputs, 3, padding=1, stride=2).square().sum((0, 2)).sqrt()
    weight = model.body[1][0].weight.detach()
    torch.testing.assert_close(scores.flatten(1), weight.flatten(1).abs() * norms)


def test_wanda_gives_each_group_of_a_convolution_its_own_inputs():
    torch.manual_seed(0)
    depthwise, linear = nn.Conv2d(1, 2, 1), nn.Conv2d(2, 4, 1, groups=2)
    model = nn.Sequential(depthwise, linear)
    scores = weight_scores(model, wanda, EVIDENCE, weights(model))["1.weight"]
    with torch.no_grad():
        norms = depthwise(torch.from_numpy(EVIDENCE.samples.x[EVIDENCE.samples.indices])).square().sum((0, 2, 3)).sqrt()
    expected = linear.weight.detach().abs().flatten() * norms.repeat_interleave(2)
    torch.testing.assert_close(scores.flatten(), expected)


def test_a_layer_that_is_never_called_is_named():
    """Attention reads its output layer's weights itself."""
    message = (
        r"^prune.criterion: no input reaches 'encoder.layers.0.self_attn.out_proj'; put it in prune.ignore, or use l1$"
    )
    with pytest.raises(ValueError, match=message):
        next(shrink_(Transformer(), settings(criterion={"method": "wanda"}), EVIDENCE, (1.0,)))


@pytest.mark.parametrize("criterion", [name for name in CRITERIA_OF_WEIGHTS if name != "wanda"])
def test_a_transformer_loses_weights_by_any_other_criterion(criterion):
    torch.manual_seed(0)
    model = Transformer()
    next(shrink_(model, settings(0.5, criterion={"method": criterion}), EVIDENCE, (1.0,)))
    assert sparsity(model) == round(0.5 * sum(weight.numel() for weight in weights(model).values()))


def test_masks_zero_exactly_what_they_do_not_keep():
    layer = nn.Sequential(nn.Linear(2, 2))
    apply_(layer, {"0.weight": torch.tensor([[True, False], [False, True]])})
    assert (layer[0].weight == 0).tolist() == [[False, True], [True, False]]
