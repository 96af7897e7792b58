import numpy as np
import pytest

from tasks.coreset.verdict import gain, interval, verdict


def trainings(rng, count, samples, easiness, advantage=0.0, *, spread=0.3):
    """(count, samples), mean over two architectures: a shared effect per set, own ones per set and sample."""
    own = rng.normal(0, 0.7, samples)  # what this kind of set teaches better or worse
    right = []
    for _ in range(count):
        drawn = advantage + rng.normal(0, spread)  # the set and its training, alike for both architectures
        heights = easiness + own + drawn + rng.normal(0, 0.7, (2, samples))
        right.append((heights > 0).mean(0))
    return np.array(right)


def claims(draws, *, count=3, samples=200, advantage=0.0, spread=0.3):
    """Shares of the draws in which `gain` and the seeds x architectures alone would claim to beat random."""
    claimed = np.zeros((draws, 2), bool)
    for draw in range(draws):
        rng = np.random.default_rng(draw)
        easiness = rng.normal(1.5, 1.5, samples)
        sets = [trainings(rng, count, samples, easiness, a, spread=spread) for a in (advantage, 0.0)]
        mean, half_width = gain(*sets)
        alone = interval(np.repeat(sets[0].mean(1) - sets[1].mean(1), 2))
        claimed[draw] = mean > half_width, alone[0] > alone[1]
    return claimed.mean(0).tolist()


@pytest.mark.parametrize(("samples", "spread"), [(200, 0.3), (200, 0.03), (2000, 0.3)])
def test_without_a_difference_a_gain_is_claimed_in_at_most_one_draw_of_twenty(samples, spread):
    honest, naive = claims(500, samples=samples, spread=spread)
    assert honest <= 0.05 < 0.1 < naive  # the second: each architecture counted for itself, the split not at all


def test_a_clear_difference_is_found():
    assert claims(100, count=5, advantage=1.2)[0] > 0.9


def test_more_trainings_narrow_the_interval_down_to_the_sampling_of_the_split():
    rng = np.random.default_rng(0)
    easiness = rng.normal(1.5, 1.5, 300)
    sets = [trainings(rng, 400, 300, easiness) for _ in range(2)]
    few, many = (gain(sets[0][:count], sets[1][:count])[1] for count in (3, 400))
    paired = (sets[0].mean(0) - sets[1].mean(0)).std() / 300**0.5
    assert few > 1.2 * many and many == pytest.approx(1.96 * paired, rel=0.1)


def test_gain_by_hand():
    """Both sets right on the same samples in every training but one: the split adds nothing."""
    chosen = np.array([[1.0, 1, 1, 1], [1, 1, 1, 1]])
    random = np.array([[1.0, 1, 0, 1], [1, 1, 1, 1]])
    mean, half = gain(chosen, random)
    # training: var(3/4, 1) / 2; between samples: var(0, 0, 1/2, 0) / 4, all of it the interaction of that one answer
    assert mean == 0.125 and half == pytest.approx(12.706205 * np.sqrt(1 / 64), rel=1e-6)


def test_gain_knows_its_bounds():
    rng = np.random.default_rng(0)
    one = rng.integers(0, 2, (3, 50)).astype(float)
    assert gain(one[:1], one[:1]) == (0, np.inf) and gain(np.ones((3, 9)), np.ones((3, 9))) == (0, 0)
    mean, half = gain(one, one[::-1])
    assert mean == pytest.approx(0) and half > 0


def test_interval_by_hand():
    mean, half = interval(np.array([0.01, 0.02, 0.03]))
    assert mean == pytest.approx(0.02) and half == pytest.approx(4.302653 * 0.01 / 3**0.5, rel=1e-6)
    assert interval(np.array([0.5])) == (0.5, np.inf)


def test_the_verdict_is_proven_only_where_the_interval_excludes_zero():
    assert verdict(0.012, 0.0119) == "beats random by 1.20 +/- 1.19 pp"
    assert verdict(0.012, 0.012) == "does not beat random (1.20 +/- 1.20 pp)"
    assert verdict(0.3, np.inf) == "is not proven to beat random (30.00 pp, of one training each)"
