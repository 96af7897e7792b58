import pytest
import torch
from toy import stirred

from tasks.models.cnn import CNN
from tasks.params import UnstructuredPruning
from tasks.prune.criteria import CRITERIA, l1
from tasks.prune.unstructured import apply_, masks, scan, shrink_, weights

SHAPE = (1, 8, 8)


def network():
    torch.manual_seed(0)
    return CNN(SHAPE, 3, (6, 10), (2, 2))


def settings(sparsity=0.7, **more):
    return UnstructuredPruning.model_validate({"pattern": "unstructured", "target": {"sparsity": sparsity}, **more})


def sparsity(model):
    return sum(int((weight == 0).sum()) for weight in weights(model).values())


def test_only_weights_of_convolutions_and_linear_layers_may_go():
    assert list(weights(network())) == ["body.0.0.weight", "body.1.0.weight", "head.weight"]


@pytest.mark.parametrize("name", CRITERIA)
@pytest.mark.parametrize("share", [0.0, 0.1, 0.37, 0.9, 0.999, 1.0])
def test_exactly_the_sparsity_goes_and_no_dropped_score_beats_a_kept_one(name, share):
    own = weights(network())
    keep = torch.cat([mask.flatten() for mask in masks(own, share, CRITERIA[name]).values()])
    scores = torch.cat([weight.detach().abs().flatten() for weight in own.values()])
    assert int((~keep).sum()) == round(share * len(keep))
    if 0 < share < 1:
        assert scores[~keep].max() <= scores[keep].min()


def test_one_threshold_for_all_layers():
    found = masks({"small": torch.tensor([[0.1, -0.2]]), "large": torch.tensor([[3.0], [-4.0]])}, 0.5, l1)
    assert found["small"].tolist() == [[False, False]] and found["large"].tolist() == [[True], [True]]


def test_among_equals_still_exactly_the_share_goes():
    assert int(masks({"w": torch.ones(10, 10)}, 0.3, l1)["w"].sum()) == 70


def test_steps_reach_the_target_exactly_and_never_bring_a_weight_back():
    model, total = stirred(network()), 6 * 9 + 6 * 10 * 9 + 30
    gone = torch.zeros(total, dtype=torch.bool)
    shares = (0.4, 0.8, 1.0)
    steps = shrink_(model, settings(0.7), SHAPE, [], 0.0, shares)
    for share, keep in zip(shares, steps, strict=True):
        now = ~torch.cat([mask.flatten() for mask in keep.values()])
        assert sparsity(model) == int(now.sum()) == round(share * 0.7 * total)
        assert (now | ~gone).all()
        gone = now


def test_biases_and_batchnorm_stay_as_they_were():
    model = stirred(network())
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    apply_(model, masks(weights(model), 0.5, l1))
    touched = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert touched == set(weights(model))


def test_the_scan_prunes_one_layer_at_a_time_and_leaves_the_model_alone():
    model = stirred(network())
    seen = []

    def score(candidate):
        seen.append([round(float((weight == 0).float().mean()), 2) for weight in weights(candidate).values()])
        return 1.0, 0.5

    points = scan(model, settings(sensitivity={"ratios": [0.5, 0.9]}), SHAPE, score)
    assert [(point.layer, point.ratio) for point in points] == [
        (layer, ratio) for layer in ("body.0.0", "body.1.0", "head") for ratio in (0.5, 0.9)
    ]
    assert [layer for row in seen for layer in row].count(0.0) == 12
    assert seen[2] == [0, 0.5, 0] and seen[5] == [0, 0, 0.9] and sparsity(model) == 0
