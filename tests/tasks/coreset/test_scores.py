import numpy as np
import pytest
import torch

from tasks.coreset.mixtures import ccs, moderate, recall_quota
from tasks.coreset.scores import aum, certainty, el2n, entropy, forgetting, grand, own_margin

# METHODS.md, section 6
S = np.array([[2, 1, 0, -1], [0, 3, -1, 1], [1, -2, 2, 0]], float)
Y = np.array([0, 1, 2])
PROBABILITIES = np.exp(S) / np.exp(S).sum(1, keepdims=True)


def test_golden_el2n():
    assert el2n(PROBABILITIES, Y) == pytest.approx([0.437644, 0.207766, 0.428957], abs=1e-6)


def test_golden_margin():
    assert certainty(PROBABILITIES) == pytest.approx([0.407031, 0.718495, 0.415450], abs=1e-6)


def test_the_own_margin_is_the_same_where_the_answer_is_right_and_negative_where_it_is_wrong():
    assert own_margin(PROBABILITIES, Y).tolist() == certainty(PROBABILITIES).tolist()
    assert own_margin(PROBABILITIES[:1], np.array([1])) == pytest.approx([-0.407031], abs=1e-6)


def test_grand_is_the_length_of_the_last_layer_s_gradient():
    layer, hidden = torch.nn.Linear(5, 4), torch.randn(3, 5)
    lengths = []
    for row, label in zip(hidden, Y, strict=True):
        layer.zero_grad()
        torch.nn.functional.cross_entropy(layer(row)[None], torch.tensor([label])).backward()
        lengths.append(float(torch.cat([p.grad.flatten() for p in layer.parameters()]).norm()))
    probabilities = layer(hidden).softmax(1).detach().numpy()
    norms = np.sqrt(np.square(hidden.numpy()).sum(1) + 1)
    assert grand(probabilities, Y, norms) == pytest.approx(lengths, rel=1e-5)


def test_entropy_is_zero_when_certain_and_largest_when_all_are_alike():
    assert entropy(np.array([[1, 0, 0, 0], [0.25] * 4])) == pytest.approx([0, np.log(4)])


def test_forgetting_counts_from_right_to_wrong_and_never_learned_is_infinite():
    right = np.array([[1, 1, 0, 0], [0, 1, 0, 1], [1, 1, 0, 1], [0, 1, 0, 1]], bool)
    assert forgetting(right).tolist() == [2, 0, np.inf, 0]


def test_aum_sums_the_margins_of_all_epochs():
    assert aum(np.array([[0.5, -1], [0.25, 1]], np.float16)).tolist() == [0.75, 0]


def test_ccs_leaves_out_the_hardest_and_draws_alike_from_each_range():
    easiness = np.concatenate([np.full(10, -9.0), np.linspace(0, 0.49, 60), np.linspace(0.51, 1, 30)])
    chosen = ccs(easiness, 20, np.random.default_rng(0), beta=0.1, strata=2)
    assert np.bincount(np.digitize(easiness[chosen], [-1, 0.5]), minlength=3).tolist() == [0, 10, 10]


def test_ccs_gives_to_fuller_ranges_what_the_emptiest_cannot():
    easiness = np.array([0.0, 1.0, 1.0, 1.0, 1.0])
    assert sorted(ccs(easiness, 4, np.random.default_rng(0), beta=0, strata=2).tolist())[0] == 0


@pytest.mark.parametrize("count", [1, 7, 20, 40])
@pytest.mark.parametrize("seed", range(3))
def test_ccs_meets_any_budget(count, seed):
    rng = np.random.default_rng(seed)
    for easiness in (rng.standard_normal(40) ** 3, np.zeros(40), np.arange(40) // 20 * 1.0):
        assert len(set(ccs(easiness, count, rng, beta=0.3, strata=50).tolist())) == count


def test_moderate_ranks_by_the_distance_of_the_median():
    features = np.array([[-3.0], [-2], [-1], [1], [2], [3], [100], [100]], np.float32)
    labels = np.array([0, 0, 0, 0, 0, 0, 1, 1])
    assert moderate(features, labels) == pytest.approx([1, 0, 1, 1, 0, 1, 0, 0])


@pytest.mark.parametrize(
    ("recalls", "total", "expected"),
    [
        ([0.9, 0.8, 0.7], 63, [11, 21, 31]),  # one each, and 60 by 1 : 2 : 3
        ([0.9, 0.8, 0.0], 63, [8, 15, 40]),  # the worst has no more than 40
        ([1.0, 1.0, 0.9], 30, [1, 1, 28]),
        ([1.0, 1.0, 0.0], 60, [11, 9, 40]),  # nothing left to correct: by size
        ([0.5, 0.5, 0.5], 3, [1, 1, 1]),
        ([0.9, 0.1, 0.5], 120, [50, 30, 40]),
    ],
)
def test_drop_quota_follows_the_errors_of_each_class(recalls, total, expected):
    found = recall_quota(np.array(recalls), np.array([50, 40, 40]) if total < 70 else np.array([50, 30, 40]), total)
    assert list(found.values()) == expected


@pytest.mark.parametrize("seed", range(20))
def test_drop_quota_meets_any_total_within_what_there_is(seed):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 50, 8)
    for total in (8, 20, int(sizes.sum() * 0.7), int(sizes.sum())):
        counts = np.array(list(recall_quota(rng.uniform(0, 1, 8).round(1), sizes, total).values()))
        assert counts.sum() == max(total, 8)
        assert (counts >= 1).all() and (counts <= sizes).all()
