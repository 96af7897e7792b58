import json
from itertools import count

import numpy as np
import pandas as pd
import pytest

from tasks.coreset.selection import (
    SELECTIONS,
    coverage_radius,
    herding_order,
    k_center_order,
    medoids,
    quota,
)
from tasks.coreset.stage import coreset
from tasks.data.dataset import Card, save_dataset
from tasks.files import Files
from tasks.params import Herding, KCenter, RandomSelection

# METHODS.md, section 6
P = np.array([(0, 0), (1, 0), (0, 1), (4, 4), (5, 4), (9, 0)], float)
LABELS = np.repeat([0, 1, 2], [40, 25, 10])
FEATURES = np.random.default_rng(0).standard_normal((75, 5)) + LABELS[:, None]
QUOTA = {0: 8, 1: 5, 2: 2}


def select(name, seed=0, features=FEATURES, labels=LABELS, wanted=QUOTA):
    return SELECTIONS[name](features, labels, wanted, np.random.default_rng(seed))


def test_golden_herding_order():
    assert herding_order(P, 6).tolist() == [3, 1, 4, 0, 5, 2]


def test_golden_k_center_order():
    assert k_center_order(P, 6).tolist() == [0, 5, 3, 1, 2, 4]


@pytest.mark.parametrize("name", SELECTIONS)
def test_indices_are_unique_in_range_and_exactly_the_budget(name):
    chosen = select(name)
    assert chosen.dtype == np.int64 and len(chosen) == 15 == len(set(chosen.tolist()))
    assert chosen.min() >= 0 and chosen.max() < 75


@pytest.mark.parametrize("name", [name for name in SELECTIONS if name != "random"])
def test_each_class_gets_its_own_quota(name):
    assert np.bincount(LABELS[select(name)]).tolist() == [8, 5, 2]


@pytest.mark.parametrize("name", SELECTIONS)
def test_the_same_seed_gives_the_same_set_and_arguments_stay(name):
    features, labels = FEATURES.copy(), LABELS.copy()
    first = select(name, features=features, labels=labels)
    assert first.tolist() == select(name, features=features, labels=labels).tolist()
    assert np.array_equal(features, FEATURES) and np.array_equal(labels, LABELS)


@pytest.mark.parametrize("name", ["random", "stratified", "k_means"])
def test_another_seed_gives_another_set(name):
    assert set(select(name).tolist()) != set(select(name, seed=1).tolist())


@pytest.mark.parametrize("name", SELECTIONS)
def test_a_budget_of_everything_keeps_everything(name):
    assert sorted(select(name, wanted={0: 40, 1: 25, 2: 10}).tolist()) == list(range(75))


@pytest.mark.parametrize("name", ["k_center", "k_means"])
def test_moving_all_points_alike_changes_nothing(name):
    assert select(name, features=FEATURES + 3).tolist() == select(name).tolist()


def test_k_center_keeps_no_duplicate_while_another_point_is_left():
    features = np.array([[0.0]] * 20 + [[1.0], [2.0], [3.0], [4.0], [5.0]])
    assert sorted(features[k_center_order(features, 6), 0]) == [0, 1, 2, 3, 4, 5]
    assert len(set(k_center_order(features, 25).tolist())) == 25


def test_k_center_takes_every_outlier_where_random_leaves_some_uncovered():
    rng = np.random.default_rng(0)
    features = np.concatenate([0.1 * rng.standard_normal((95, 2)), 10 * np.array([(1, 0), (0, 1), (-1, 0), (0, -1)])])
    labels, wanted = np.zeros(99, int), {0: 5}
    assert coverage_radius(features, select("k_center", features=features, labels=labels, wanted=wanted)) < 1
    for seed in range(5):
        assert coverage_radius(features, select("random", seed, features, labels, wanted)) > 5


def test_herding_follows_the_mean_more_closely_than_random():
    def error(chosen):
        return np.linalg.norm(FEATURES[:40][chosen].mean(0) - FEATURES[:40].mean(0))

    drawn = [error(np.random.default_rng(seed).permutation(40)[:8]) for seed in range(20)]
    assert error(herding_order(FEATURES[:40], 8)) < 0.5 * min(drawn)


@pytest.mark.parametrize("seed", range(5))
def test_medoids_are_the_points_nearest_to_the_middle_of_each_cluster(seed):
    features = np.array([[0.0], [1.0], [2.1], [100.0], [101.0], [102.1]])
    assert sorted(medoids(features, 2, np.random.default_rng(seed)).tolist()) == [1, 4]


def test_medoids_of_duplicates_are_still_different_samples():
    chosen = medoids(np.zeros((6, 2)), 4, np.random.default_rng(0))
    assert len(set(chosen.tolist())) == 4


def test_coverage_radius_by_hand():
    assert coverage_radius(P, np.array([0, 3])) == pytest.approx(41**0.5)  # (9, 0) to (4, 4)
    assert coverage_radius(P, np.arange(6)) == 0


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


@pytest.fixture
def stage(tmp_path):
    """Run the stage on the toy, of which 60 samples are training's; -> its numbers, files' bytes and indices."""
    table = pd.DataFrame({"id": range(75)})
    card = Card(name="t", kind="tabular", samples=0, input_shape=(), classes=("a", "b", "c"))
    save_dataset(tmp_path / "data", FEATURES.astype(np.float32), LABELS, table, card)
    order = np.random.default_rng(0).permutation(75)
    np.savez(tmp_path / "split.npz", train=order[:60], validation=order[60:68], test=order[68:])
    runs = count()

    def run(params):
        out = tmp_path / str(next(runs))
        reads = {"data": tmp_path / "data", "split": tmp_path / "split.npz"}
        numbers = coreset(params, 0, Files(reads, {"coreset": out}))
        with np.load(out / "indices.npz") as file:
            indices = file["indices"]
        assert set(indices.tolist()) <= set(order[:60].tolist())
        return (
            numbers,
            [path.read_bytes() for path in sorted(out.iterdir())],
            json.loads((out / "report.json").read_text()),
        )

    return run


@pytest.mark.parametrize("features", ["raw", "proxy"])
def test_the_stage_run_twice_writes_the_same_bytes(stage, features):
    params = Herding(method="herding", fraction=0.5, features=features)
    assert stage(params)[1] == stage(params)[1]


def test_the_stage_selects_training_samples_only_and_counts_them(stage):
    numbers, _, report = stage(KCenter(method="k_center", per_class=3, features="raw"))
    assert report["per_class"] == {"a": 3, "b": 3, "c": 3} and report["of"] == 60
    assert numbers["samples"] == 9 and numbers["fraction"] == 0.15 and numbers["smallest_class"] == 3


def test_k_center_covers_more_than_random(stage):
    radius = [
        stage(params)[0]["coverage_radius"]
        for params in (
            KCenter(method="k_center", fraction=0.5, features="raw"),
            RandomSelection(method="random", fraction=0.5, features="raw"),
        )
    ]
    assert radius[0] < radius[1]
