import numpy as np
import pytest

from tasks.coreset.embedding import MOST_DOTS, embedding

RNG = np.random.default_rng(0)


def test_the_plane_is_that_of_the_widest_spread():
    features = (RNG.standard_normal((200, 5)) * [0.1, 20, 0.1, 5, 0.1]).astype(np.float32)
    dots = embedding(features, np.arange(0, 200, 4), np.random.default_rng(0))
    assert dots.samples.tolist() == list(range(200)) and np.flatnonzero(dots.kept).tolist() == list(range(0, 200, 4))
    for axis, column in ((0, 1), (1, 3)):
        assert abs(np.corrcoef(dots.places[:, axis], features[:, column])[0, 1]) > 0.99
    assert dots.variance == pytest.approx(1, abs=0.01)


def test_few_kept_are_all_shown_among_as_many_dropped_as_there_is_room_for():
    features = RNG.standard_normal((5000, 3)).astype(np.float32)
    dots = embedding(features, np.arange(30), np.random.default_rng(0))
    assert dots.kept.sum() == 30 and len(dots.samples) == MOST_DOTS + 30
    again = embedding(features, np.arange(30), np.random.default_rng(0))
    assert np.array_equal(dots.samples, again.samples) and np.array_equal(dots.places, again.places)


@pytest.mark.parametrize("features", [np.ones((6, 4)), np.arange(6.0)[:, None], np.arange(12.0).reshape(2, 6)])
def test_less_than_a_plane_is_drawn_all_the_same(features):
    dots = embedding(features.astype(np.float32), np.array([0]), np.random.default_rng(0))
    assert dots.places.shape == (len(features), 2) and np.isfinite(dots.places).all() and 0 < dots.variance <= 1
