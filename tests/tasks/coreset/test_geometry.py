import numpy as np
import pytest

from tasks.coreset.distances import cluster_sizes, near_zero, nearest
from tasks.coreset.geometry import coverage_radius, herding_order, k_center_order, medoids

# METHODS.md, section 6
P = np.array([(0, 0), (1, 0), (0, 1), (4, 4), (5, 4), (9, 0)], np.float32)
POINTS = np.random.default_rng(0).standard_normal((200, 5)).astype(np.float32)


def test_golden_herding_order():
    assert herding_order(P, 6).tolist() == [3, 1, 4, 0, 5, 2]


def test_golden_k_center_order():
    assert k_center_order(P, 6).tolist() == [0, 5, 3, 1, 2, 4]


def test_herding_follows_the_mean_more_closely_than_random():
    def error(chosen):
        return np.linalg.norm(POINTS[chosen].mean(0) - POINTS.mean(0))

    drawn = [error(np.random.default_rng(seed).permutation(200)[:8]) for seed in range(20)]
    assert error(herding_order(POINTS, 8)) < 0.5 * min(drawn)


def test_k_center_keeps_no_duplicate_while_another_point_is_left():
    features = np.array([[0.0]] * 20 + [[1.0], [2.0], [3.0], [4.0], [5.0]], np.float32)
    assert sorted(features[k_center_order(features, 6), 0]) == [0, 1, 2, 3, 4, 5]
    assert len(set(k_center_order(features, 25).tolist())) == 25


def test_each_k_center_is_the_farthest_from_those_before():
    order = k_center_order(POINTS, 9)
    for step in range(1, 9):
        gaps = np.linalg.norm(POINTS[:, None] - POINTS[None, order[:step]], axis=2).min(1)
        assert gaps[order[step]] == pytest.approx(gaps.max(), rel=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_medoids_are_the_points_nearest_to_the_middle_of_each_cluster(seed):
    features = np.array([[0.0], [1.0], [2.1], [100.0], [101.0], [102.1]], np.float32)
    assert sorted(medoids(features, 2, np.random.default_rng(seed)).tolist()) == [1, 4]


@pytest.mark.parametrize("count", [4, 12, 30])
def test_medoids_of_duplicates_are_still_different_samples(count):
    chosen = medoids(np.zeros((30, 2), np.float32), count, np.random.default_rng(0))
    assert len(set(chosen.tolist())) == count


def test_medoids_fit_more_tightly_than_random_samples():
    def spread(chosen):
        return np.square(nearest(POINTS, POINTS[chosen])[0]).sum()

    drawn = [spread(np.random.default_rng(seed).permutation(200)[:10]) for seed in range(20)]
    assert spread(medoids(POINTS, 10, np.random.default_rng(0))) < min(drawn)


def test_coverage_radius_by_hand():
    assert coverage_radius(P, np.array([0, 3])) == pytest.approx(41**0.5)  # (9, 0) to (4, 4)
    assert coverage_radius(P, np.arange(6)) == 0


def test_cluster_sizes_by_hand():
    assert cluster_sizes(P, np.array([0, 3, 5])).tolist() == [3, 2, 1]


def test_a_chosen_duplicate_stands_for_itself():
    features = np.array([[0.0]] * 4 + [[1.0]], np.float32)
    assert cluster_sizes(features, np.array([0, 1, 4])).tolist() == [3, 1, 1]


@pytest.mark.parametrize("elements", [1, 7, 1 << 22])
def test_blocks_of_any_size_find_the_same(monkeypatch, elements):
    monkeypatch.setattr("tasks.coreset.distances.ELEMENTS", elements)
    distance, which = nearest(POINTS, POINTS[:20])
    exact = np.linalg.norm(POINTS[:, None].astype(float) - POINTS[None, :20], axis=2)
    assert which.tolist() == exact.argmin(1).tolist()
    np.testing.assert_allclose(distance, exact.min(1), atol=2e-3)  # zero by matrix product, in float32
    assert k_center_order(POINTS, 9).tolist() == k_center_order(POINTS.copy(), 9).tolist()


def test_distances_far_from_the_origin_keep_their_digits():
    far = POINTS[:50] + 10_000
    assert nearest(near_zero(far), near_zero(far)[::2])[1].tolist() == nearest(POINTS[:50], POINTS[:50:2])[1].tolist()
