import inspect
from dataclasses import fields, replace
from typing import get_args

import numpy as np
import pytest

from tasks.coreset.evidence import Chosen, Evidence
from tasks.coreset.geometry import coverage_radius
from tasks.coreset.scores import HARDNESS, own_margin
from tasks.coreset.selection import NEEDS_TRAINING, SELECTIONS, check_chosen, choose, quota
from tasks.params.coreset import Choosing

LABELS = np.repeat([0, 1, 2], [40, 25, 10])
QUOTA = {0: 8, 1: 5, 2: 2}
UNEQUAL = {"random", "drop_quota"}  # these have a quota for all classes together


def made(labels=LABELS, seed=0):
    """Features around a centre per class, and a history of 6 epochs that gets better."""
    rng = np.random.default_rng(seed)
    logits = rng.standard_normal((6, len(labels), 3)) + np.arange(1, 7)[:, None, None] * np.eye(3)[labels]
    probabilities = np.exp(logits) / np.exp(logits).sum(2, keepdims=True)
    return Evidence(
        features=(rng.standard_normal((len(labels), 5)) + labels[:, None]).astype(np.float32),
        labels=labels,
        probabilities=probabilities[0].astype(np.float32),
        hidden_norms=rng.uniform(1, 2, len(labels)).astype(np.float32),
        right=probabilities.argmax(2) == labels,
        margins=np.stack([own_margin(p, labels) for p in probabilities]).astype(np.float16),
        recalls=np.array([0.9, 0.8, 0.7]),
    )


EVIDENCE = made()


def select(name, seed=0, evidence=EVIDENCE, wanted=QUOTA, **knobs):
    return choose(name, evidence, wanted, np.random.default_rng(seed), knobs=knobs)


@pytest.mark.parametrize("name", SELECTIONS)
def test_indices_are_unique_in_range_sorted_and_exactly_the_budget(name):
    indices = select(name).indices
    assert indices.dtype == np.int64 and len(indices) == 15 and (np.diff(indices) > 0).all()
    assert indices.min() >= 0 and indices.max() < 75


@pytest.mark.parametrize("name", SELECTIONS)
def test_the_weights_say_how_many_each_stands_for_and_sum_to_all(name):
    weights = select(name).weights
    assert len(weights) == 15 and weights.min() > 0 and weights.sum() == pytest.approx(75, abs=1e-9)


@pytest.mark.parametrize("name", [name for name in SELECTIONS if name not in UNEQUAL])
def test_each_class_gets_its_own_quota(name):
    assert np.bincount(LABELS[select(name).indices]).tolist() == [8, 5, 2]


@pytest.mark.parametrize("name", [name for name in SELECTIONS if name not in UNEQUAL])
def test_all_samples_may_compete_for_one_budget(name):
    evidence = replace(EVIDENCE, groups=np.zeros(75, int))
    chosen = select(name, evidence=evidence, wanted={0: 15})
    assert len(chosen.indices) == 15 and chosen.weights.sum() == pytest.approx(75)


@pytest.mark.parametrize("name", SELECTIONS)
def test_the_same_seed_gives_the_same_set_and_arguments_stay(name):
    evidence, first = made(), select(name)
    again = select(name, evidence=evidence)
    assert first.indices.tolist() == again.indices.tolist() and first.weights.tolist() == again.weights.tolist()
    for field in fields(Evidence):
        assert np.array_equal(getattr(evidence, field.name), getattr(EVIDENCE, field.name))


@pytest.mark.parametrize("name", ["random", "stratified", "k_means", "ccs", "drop_quota"])
def test_another_seed_gives_another_set(name):
    assert set(select(name).indices.tolist()) != set(select(name, seed=1).indices.tolist())


@pytest.mark.parametrize("name", SELECTIONS)
def test_a_budget_of_everything_keeps_everything_once(name):
    chosen = select(name, wanted={0: 40, 1: 25, 2: 10})
    assert chosen.indices.tolist() == list(range(75)) and chosen.weights.tolist() == [1] * 75


@pytest.mark.parametrize("name", ["k_center", "k_means", "facility_location", "herding", "moderate"])
def test_moving_all_points_alike_changes_nothing(name):
    moved = replace(EVIDENCE, features=EVIDENCE.features + 3)
    assert select(name, evidence=moved).indices.tolist() == select(name).indices.tolist()


@pytest.mark.parametrize("name", ["k_center", "k_means", "facility_location"])
def test_of_many_duplicates_not_all_are_kept(name):
    features = np.array([[0.0]] * 20 + [[10.0], [20.0], [30.0], [40.0], [50.0]], np.float32)
    evidence = Evidence(features, np.zeros(25, int))
    kept = [features[select(name, seed, evidence, {0: 6}).indices, 0] for seed in range(3)]
    assert all(len(np.unique(values)) == 6 for values in kept)


@pytest.mark.parametrize("name", SELECTIONS)
def test_near_duplicates_are_gone_before_any_selection_starts(name):
    twice = np.tile(np.arange(75), 2)
    doubled = made().take(twice)
    chosen = choose(name, doubled, QUOTA, np.random.default_rng(0), threshold=0.9999)
    assert len(np.unique(twice[chosen.indices])) == 15 and chosen.weights.sum() == pytest.approx(150)


@pytest.mark.parametrize("name", ["k_means", "k_center", "facility_location"])
def test_cluster_weights_count_whom_each_stands_for_within_its_class(name):
    chosen = select(name, weights="clusters")
    assert np.bincount(LABELS[chosen.indices], chosen.weights).tolist() == [40, 25, 10]
    assert len(np.unique(chosen.weights)) > 1 and (chosen.weights == chosen.weights.round()).all()


@pytest.mark.parametrize("name", ["k_center", "facility_location", "k_means"])
def test_geometry_covers_far_more_than_random_where_it_must(name):
    rng = np.random.default_rng(0)
    outliers = 10 * np.array([(1, 0), (0, 1), (-1, 0), (0, -1)])
    features = np.concatenate([0.1 * rng.standard_normal((95, 2)), np.repeat(outliers, 3, 0)]).astype(np.float32)
    evidence = Evidence(features, np.zeros(len(features), int))
    drawn = [coverage_radius(features, select("random", seed, evidence, {0: 5}).indices) for seed in range(5)]
    assert coverage_radius(features, select(name, evidence=evidence, wanted={0: 5}).indices) < 0.1 * min(drawn)


@pytest.mark.parametrize("name", HARDNESS)
def test_no_dropped_sample_of_a_class_is_harder_than_a_kept_one(name):
    hardness, kept = HARDNESS[name](EVIDENCE), np.isin(np.arange(75), select(name).indices)
    for label in range(3):
        own = label == LABELS
        assert hardness[own & kept].min() >= hardness[own & ~kept].max()


@pytest.mark.parametrize("name", SELECTIONS)
def test_hardest_first_warns_below_a_third_and_names_what_to_take(name):
    enough = {0: 16, 1: 10, 2: 4}
    note = select(name).note
    assert select(name, wanted=enough).note == ""
    assert ("ccs or facility_location" in note and "20.0%" in note) if name in HARDNESS else note == ""


def test_ties_are_broken_at_random():
    evidence = replace(EVIDENCE, right=np.ones((6, 75), bool))
    assert select("forgetting", 0, evidence).indices.tolist() != select("forgetting", 1, evidence).indices.tolist()


@pytest.mark.parametrize("name", sorted(NEEDS_TRAINING))
def test_a_method_without_its_evidence_says_which(name):
    with pytest.raises(ValueError, match=r"coreset: this method needs the proxy's (\w+), which were not recorded"):
        select(name, evidence=Evidence(EVIDENCE.features, LABELS))


@pytest.mark.parametrize("name", [name for name in SELECTIONS if name not in NEEDS_TRAINING])
def test_the_others_need_features_and_labels_only(name):
    select(name, evidence=Evidence(EVIDENCE.features, LABELS))


def test_every_knob_in_params_is_an_argument_with_the_same_default():
    def leaves(union):
        return [leaf for part in get_args(union) for leaf in (leaves(part) or [part])]

    sections = leaves(Choosing)
    assert [get_args(section.model_fields["method"].annotation)[0] for section in sections] == list(SELECTIONS)
    for name, section in zip(SELECTIONS, sections, strict=True):
        knobs = section(method=name, fraction=0.5).knobs()
        assert knobs == (getattr(SELECTIONS[name], "__kwdefaults__", None) or {})
        assert set(knobs) == {
            key for key, p in inspect.signature(SELECTIONS[name]).parameters.items() if p.kind == p.KEYWORD_ONLY
        }


def test_a_feature_that_is_not_finite_names_the_sample():
    features = EVIDENCE.features.copy()
    features[[7, 9], 2] = np.nan, np.inf
    with pytest.raises(ValueError, match=r"coreset\.features: 2 of 75 samples .* the first is training sample 7"):
        select("random", evidence=replace(EVIDENCE, features=features))


def test_more_than_there_are_names_the_class():
    with pytest.raises(ValueError, match="coreset: 11 samples of class 2 are asked for, it has 10"):
        select("stratified", wanted={0: 8, 1: 5, 2: 11})


def test_too_many_near_duplicates_name_the_knob():
    same = replace(EVIDENCE, features=np.ones((75, 5), np.float32))
    with pytest.raises(ValueError, match=r"8 samples of class 0 .* it has 1 without .* raise coreset.dedupe.threshold"):
        choose("random", same, QUOTA, np.random.default_rng(0), threshold=0.99)


@pytest.mark.parametrize(
    ("indices", "weights", "message"),
    [
        ([0, 0], [1, 2], "1 different samples were chosen; it must be 2"),
        ([0], [3], "1 different samples"),
        ([0, 1], [1, 1], "sum to 2 and begin at 1; they must sum to 3"),
        ([0, 1], [4, -1], "begin at -1; they must sum to 3, .* none be negative"),
        ([0, 1], [3], "the 1 weights of 2 samples"),
    ],
)
def test_a_selection_that_breaks_its_promises_is_refused(indices, weights, message):
    with pytest.raises(ValueError, match=message):
        check_chosen(Chosen(np.array(indices), np.array(weights, float)), samples=3, budget=2)


@pytest.mark.parametrize(
    ("fraction", "expected"),
    [(0.2, {0: 8, 1: 5, 2: 2}), (1.0, {0: 40, 1: 25, 2: 10}), (0.1, {0: 4, 1: 3, 2: 1})],  # 2.5 gets the half
)
def test_a_fraction_is_dealt_out_by_largest_remainder(fraction, expected):
    assert quota(LABELS, 3, fraction=fraction, per_class=None) == expected


@pytest.mark.parametrize("fraction", np.linspace(0.11, 1, 30))
def test_the_total_is_the_rounded_share_and_no_class_is_off_by_one_or_more(fraction):
    found = quota(LABELS, 3, fraction=float(fraction), per_class=None)
    assert sum(found.values()) == round(75 * float(fraction))
    assert all(abs(found[label] - size * fraction) < 1 for label, size in enumerate((40, 25, 10)))


def test_per_class_is_the_same_for_each():
    assert quota(LABELS, 3, fraction=None, per_class=7) == {0: 7, 1: 7, 2: 7}


def test_too_small_a_fraction_names_the_class_and_one_that_does():
    with pytest.raises(ValueError, match=r"coreset\.fraction is 0\.02; it leaves class 2 of 10 .* 0\.1 keeps"):
        quota(LABELS, 3, fraction=0.02, per_class=None)


def test_a_class_without_samples_is_named_without_a_warning():
    with pytest.raises(ValueError, match="class 1 of 0 samples"):
        quota(np.array([0, 0, 2, 2]), 3, fraction=0.5, per_class=None)


def test_too_many_per_class_names_the_class_and_what_it_has():
    with pytest.raises(ValueError, match=r"coreset\.per_class is 11; class 2 has only 10 samples"):
        quota(LABELS, 3, fraction=None, per_class=11)


def test_a_single_class_is_refused():
    with pytest.raises(ValueError, match="coreset: the data has 1 class"):
        quota(np.zeros(9, int), 1, fraction=0.5, per_class=None)
