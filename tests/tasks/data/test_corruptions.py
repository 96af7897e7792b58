"""Every corruption does what its name says, no more, and the same again with the same seed."""

import numpy as np
import pytest
from toy import blobs, card, pictures

from tasks.data.batches import Samples
from tasks.data.corruptions import ALL, CORRUPTIONS, applicable, corrupted, scene_of
from tasks.data.dataset import Card, Column
from tasks.data.splits import Splits

MIXED = Card(
    name="mixed", kind="tabular", samples=0, input_shape=(6,), classes=("a", "b"),
    columns=(
        Column(name="age", kind="numeric"),
        Column(name="colour", kind="categorical", categories=("red", "green", "blue")),
        Column(name="height", kind="numeric"),
        Column(name="only", kind="categorical", categories=("x",)),
    ),
)  # fmt: skip


def splits(samples, its_card=None):
    return Splits(its_card or card(samples.shape), samples, samples, samples, samples)


def rows(count=2000, seed=0):
    """age and height around 10 and 100; colour one-hot; a column of one category."""
    rng = np.random.default_rng(seed)
    colour = np.eye(3)[np.arange(count) % 3]
    x = np.column_stack([10 + rng.standard_normal(count), colour, 100 + 5 * rng.standard_normal(count), np.ones(count)])
    return Samples(x.astype(np.float32), np.arange(count) % 2, np.arange(count))


def photographs(count=40):
    """Smooth pictures of 0 to 200: a bright bar on a slope, each elsewhere."""
    place = np.arange(16)
    x = np.stack(
        [80 + 4 * place[None] + 50 * (abs(place[:, None] - 3 - i % 8) < 2) + 0 * place[None] for i in range(count)]
    )
    return Samples(x[:, None].astype(np.float32), np.arange(count) % 3, np.arange(count))


def changed(name, samples, severity=3, seed=0, its_card=None):
    data = splits(samples, its_card)
    return corrupted(samples, scene_of(data), name, severity, seed)


def of_kind(name):
    return (photographs(), None) if name in CORRUPTIONS["image"] else (rows(), MIXED)


@pytest.mark.parametrize("name", ALL)
def test_shape_and_targets_stay_the_argument_too_and_the_seed_decides(name):
    samples, its_card = of_kind(name)
    before = samples.x.copy()
    found, again, other = (changed(name, samples, seed=seed, its_card=its_card) for seed in (0, 0, 1))
    assert found.x.dtype == np.float32 and found.x.shape == samples.x.shape and np.isfinite(found.x).all()
    assert found.y.tolist() == samples.y.tolist() and samples.x.tobytes() == before.tobytes()
    assert found.x.tobytes() == again.x.tobytes()
    assert (found.x.tobytes() == other.x.tobytes()) == (name in ("blur", "brightness", "contrast"))


@pytest.mark.parametrize("name", ALL)
def test_each_severity_changes_more_than_the_one_before(name):
    samples, its_card = of_kind(name)
    moved = [
        np.abs(changed(name, samples, severity, its_card=its_card).x - samples.x).mean() for severity in range(1, 6)
    ]
    assert moved[0] > 0 and moved == sorted(moved) and moved[-1] > 1.5 * moved[0]


def test_a_part_of_the_samples_is_corrupted_alone_and_in_its_own_order():
    samples = photographs()
    part = Samples(samples.x, samples.y, np.array([7, 2]))
    found = corrupted(part, scene_of(splits(samples)), "brightness", 1, 0)
    assert found.y.tolist() == [1, 2] and len(found) == 2
    assert (found.inputs(slice(None)).numpy()[0] >= samples.x[7]).all()


def test_noise_has_the_spread_it_says_and_stays_in_range():
    samples = Samples(np.full((50, 1, 16, 16), 50, np.float32), np.zeros(50, np.int64), np.arange(50))
    samples.x[0, 0, 0, :2] = [0, 100]
    found = changed("noise", samples, 2).x
    assert found[1:].std() == pytest.approx(8, rel=0.05)  # 4 % twice, of 100
    assert found.min() >= 0 and found.max() <= 100


def test_blur_keeps_the_mean_and_smooths():
    samples = pictures(20, size=16)
    found = changed("blur", samples, 5).x
    np.testing.assert_allclose(found.mean((1, 2, 3)), samples.x.mean((1, 2, 3)), rtol=0.05)
    assert np.abs(np.diff(found, axis=3)).mean() < 0.5 * np.abs(np.diff(samples.x, axis=3)).mean()


def test_a_shift_moves_by_the_distance_it_says_in_all_directions():
    x = np.zeros((40, 1, 50, 60), np.float32)
    x[:, 0, 25, 30] = 1.0
    found = changed("shift", Samples(x, np.arange(40) % 2, np.arange(40)), 3).x[:, 0]
    down, right = ((found * places).sum((1, 2)) / found.sum((1, 2)) for places in np.mgrid[:50, :60])
    np.testing.assert_allclose(np.hypot(down - 25, right - 30), 0.12 * 50, rtol=0.02)
    assert {(d > 25, r > 30) for d, r in zip(down, right, strict=True)} == {(a, b) for a in (0, 1) for b in (0, 1)}


def test_a_rotation_keeps_the_middle_and_turns_the_rest_by_the_angle():
    """A line through the middle of a square ends where the angle puts it."""
    x = np.zeros((64, 1, 65, 65), np.float32)
    x[:, 0, 32] = 1.0
    found = changed("rotate", Samples(x, np.arange(64) % 2, np.arange(64)), 5).x[:, 0]  # 30 degrees
    assert (found[:, 32, 32] > 0.99).all()
    rise = round(20 * np.tan(np.radians(30)))
    up, down = found[:, 32 - rise, 52] > 0.4, found[:, 32 + rise, 52] > 0.4
    assert (up ^ down).all() and 10 < up.sum() < 54


def test_brightness_contrast_and_inverse_by_hand():
    samples = photographs()
    low, high = samples.x.min(), samples.x.max()
    bright = changed("brightness", samples, 1).x
    np.testing.assert_allclose(bright, np.minimum(samples.x + 0.08 * (high - low), high), rtol=1e-6)
    flat = changed("contrast", samples, 4).x
    np.testing.assert_allclose(flat.std((1, 2, 3)), 0.4 * samples.x.std((1, 2, 3)), rtol=1e-4)
    np.testing.assert_allclose(changed("inverse", samples, 5).x, low + high - samples.x, rtol=1e-6)
    some = (changed("inverse", samples, 2).x != samples.x).any((1, 2, 3)).mean()
    assert 0.15 < some < 0.7


def test_missing_numbers_become_the_mean_and_categories_none():
    samples = rows()
    found = changed("missing", samples, 4, its_card=MIXED).x
    lost = found[:, 0] != samples.x[:, 0]
    assert 0.17 < lost.mean() < 0.23
    np.testing.assert_allclose(found[lost, 0], samples.x[:, 0].mean(), rtol=1e-5)
    totals = found[:, 1:4].sum(1)
    assert set(totals) == {0, 1} and 0.17 < (totals == 0).mean() < 0.23
    assert not np.array_equal(lost, totals == 0)


def test_a_missing_category_is_the_one_of_missing_cells_where_training_had_them():
    colour = MIXED.columns[1].model_copy(update={"categories": ("green", "red", "(missing)")})
    its_card = MIXED.model_copy(update={"columns": (MIXED.columns[0], colour, *MIXED.columns[2:])})
    samples = rows()
    found = changed("missing", samples, 5, its_card=its_card).x[:, 1:4]
    moved = (found != samples.x[:, 1:4]).any(1)
    assert 0.13 < moved.mean() < 0.21  # a quarter of the two thirds that had another one
    assert (found[moved] == [0, 0, 1]).all() and (found.sum(1) == 1).all()


def test_jitter_is_a_share_of_each_numbers_spread_and_leaves_categories_alone():
    samples = rows()
    moved = changed("jitter", samples, 3, its_card=MIXED).x - samples.x
    np.testing.assert_allclose(moved[:, [0, 4]].std(0), 0.3 * samples.x[:, [0, 4]].std(0), rtol=0.1)
    assert not moved[:, [1, 2, 3, 5]].any()


def test_a_swapped_category_is_another_one():
    samples = rows()
    found = changed("category_swap", samples, 4, its_card=MIXED).x
    before, after = samples.x[:, 1:4].argmax(1), found[:, 1:4].argmax(1)
    assert (found[:, 1:4].sum(1) == 1).all() and 0.17 < (before != after).mean() < 0.23
    assert np.bincount((after - before)[before != after] % 3).tolist()[1:] == pytest.approx([200, 200], abs=50)
    assert np.array_equal(found[:, [0, 4, 5]], samples.x[:, [0, 4, 5]])


def test_a_table_without_categories_has_none_to_swap():
    assert applicable(MIXED) == ("missing", "jitter", "category_swap")
    assert applicable(card(blobs().shape)) == ("missing", "jitter")
    assert applicable(card((1, 8, 8))) == tuple(CORRUPTIONS["image"])
