import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from torch.nn import functional as F
from toy import blobs, card, pictures

from tasks.coreset.synthesis.make import SYNTHESES, make
from tasks.coreset.synthesis.matching import mean_distance
from tasks.coreset.synthesis.networks import fresh
from tasks.coreset.synthesis.real import drawn, real_samples
from tasks.coreset.synthesis.siamese import draw_change
from tasks.data.batches import Samples
from tasks.data.synthesized import packed, unpacked
from tasks.params import Coreset
from tasks.params.synthesis import Siamese

WAYS = [
    {"method": "distribution_matching", "labels": "hard"},
    {"method": "distribution_matching"},
    *[{"method": "kernel_ridge", "variant": variant, "pool": 2} for variant in ("frepo", "random", "label_solve")],
    {"method": "kernel_ridge", "labels": "hard", "pool": 2, "age": 1},
]
IMAGES, ROWS = pictures(30), blobs()
PLAIN = Siamese(shift=0.0, scale=1.0, rotate=0.0, brightness=0.0, contrast=0.0, cutout=0.0)


def section(**params):
    small = {"per_class": 2, "steps": 3, "batch_size": 12, "width": 4}
    return TypeAdapter(Coreset).validate_python({**small, **params})


def made_of(samples, seed=0, **params):
    params = section(**params)
    return make(params, params.method, samples, card(samples.shape), seed)


def test_every_method_is_tried_here():
    assert {way["method"] for way in WAYS} == set(SYNTHESES)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("samples", "formation"), [(IMAGES, 1), (IMAGES, 2), (ROWS, 1)], ids=["images", "grid", "rows"]
)
def test_the_budget_is_met_and_labels_are_probabilities(samples, formation, way):
    real, made = made_of(samples, formation=formation, **way)
    assert made.images.shape == (6, *samples.shape) and made.images.isfinite().all()
    assert made.labels.shape == (6 * formation**2, 3) and len(made.inputs()) == len(made.labels)
    assert (made.labels >= 0).all()
    torch.testing.assert_close(made.labels.sum(1), torch.ones(len(made.labels)))
    stored = real.raw(made.images)
    assert stored.dtype == samples.x.dtype
    assert stored.min() >= samples.x.min() - 1e-4 and stored.max() <= samples.x.max() + 1e-4


@pytest.mark.parametrize("way", WAYS)
def test_the_seed_decides(way):
    torch.manual_seed(1)
    (_, first), (_, other) = made_of(IMAGES, **way), made_of(IMAGES, seed=1, **way)
    torch.manual_seed(2)
    _, again = made_of(IMAGES, **way)
    assert torch.equal(first.images, again.images) and torch.equal(first.labels, again.labels)
    assert not torch.equal(first.images, other.images)


@pytest.mark.parametrize("way", WAYS)
def test_what_is_to_be_learned_changes_and_nothing_else(way):
    real, made = made_of(IMAGES, **way)
    start = drawn(real, 2, 1, torch.Generator().manual_seed(0))
    assert torch.equal(made.images, start.images) == (way.get("variant") == "label_solve")
    assert torch.equal(made.labels, start.labels) == (way.get("labels") == "hard")


def test_a_set_like_the_real_one_has_no_distance_and_no_gradient():
    real = torch.rand(3, 5, 7, generator=torch.Generator().manual_seed(0))
    made = real.mean(1, keepdim=True).requires_grad_()
    distance = mean_distance(real, made)
    distance.backward()
    assert float(distance.detach()) < 1e-12 and float(made.grad.abs().max()) < 1e-6
    assert float(mean_distance(real, real + 1)) == pytest.approx(3 * 7, rel=1e-5)


def noisy_stripes(count, seed):
    """Three classes by the direction of a pattern that no single image shows clearly."""
    rng = np.random.default_rng(seed)
    y = np.arange(count) % 3
    across, down = np.meshgrid(np.arange(8), np.arange(8))
    patterns = np.stack([np.sin(across * 1.6), np.sin(down * 1.6), np.sin((across + down) * 1.6)])
    x = patterns[y] + 2.0 * rng.standard_normal((count, 8, 8))
    return Samples(x[:, None].astype(np.float32), y, np.arange(count))


def test_matching_brings_the_class_means_of_features_nearer():
    given = {"method": "distribution_matching", "labels": "hard", "width": 8, "batch_size": 60, "lr": 0.3}
    real, made = made_of(noisy_stripes(300, 0), steps=60, **given, augment=PLAIN)
    start = drawn(real, 2, 1, torch.Generator().manual_seed(0))
    network = fresh(real.shape, 3, 8, torch.Generator().manual_seed(99))
    with torch.no_grad():
        wanted = network.body(real.of_each(100, torch.Generator().manual_seed(0))).unflatten(0, (3, -1))
        before, after = (mean_distance(wanted, network.body(one.images).unflatten(0, (3, -1))) for one in (start, made))
    assert after < 0.75 * before


def learned(inputs, labels, tested, seed):
    """Accuracy of a fresh network that learned these."""
    generator = torch.Generator().manual_seed(seed)
    network = fresh(inputs.shape[1:], 3, 16, generator)
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    for _ in range(40):
        optimizer.zero_grad()
        F.cross_entropy(network(inputs), labels).backward()
        optimizer.step()
    with torch.no_grad():
        return float((network(tested[0]).argmax(1) == tested[1]).float().mean())


@pytest.mark.parametrize("way", [WAYS[0], WAYS[2]])
def test_made_samples_teach_more_than_as_many_random_ones(way):
    given = {"per_class": 1, "steps": 60, "batch_size": 120, "width": 8, "lr": 0.3, "augment": PLAIN}
    real, made = made_of(noisy_stripes(600, 0), **given, **way)
    other = noisy_stripes(300, 1)
    tested = real_samples(other, 3).inputs(np.arange(300)), other.targets(slice(None))
    gains = []
    for seed in range(4):
        random = drawn(real, 1, 1, torch.Generator().manual_seed(seed))
        gains.append(
            learned(made.images, made.labels, tested, seed) - learned(random.images, random.labels, tested, seed)
        )
    assert np.mean(gains) > 0.1


def test_an_image_holds_a_grid_of_smaller_ones():
    big = torch.arange(8.0).view(8, 1, 1, 1).expand(8, 2, 6, 4)
    grid = packed(big, 2)
    assert grid.shape == (2, 2, 6, 4)
    assert grid[1, 0, :, 0].tolist() == [4, 4, 4, 6, 6, 6] and grid[1, 0, 0].tolist() == [4, 4, 5, 5]
    torch.testing.assert_close(unpacked(grid, 2), big)


@pytest.mark.parametrize(
    ("samples", "formation", "needed"), [(IMAGES, 3, "divide 8 and 8"), (ROWS, 2, "be 1 for tables")]
)
def test_a_formation_that_does_not_fit_is_refused(samples, formation, needed):
    with pytest.raises(ValueError, match=f"coreset.formation is {formation}; it must {needed}"):
        made_of(samples, method="kernel_ridge", formation=formation)


def test_a_class_without_samples_is_named():
    with pytest.raises(ValueError, match="class 'c' has no training sample"):
        made_of(Samples(IMAGES.x, IMAGES.y, np.flatnonzero(IMAGES.y < 2)), method="kernel_ridge")


def test_a_loss_that_is_not_finite_names_the_knob():
    bad = Samples(np.full_like(IMAGES.x, np.nan), IMAGES.y, IMAGES.indices)
    with pytest.raises(ValueError, match="the loss is nan in step 1; lower coreset"):
        made_of(bad, method="distribution_matching")


def test_one_change_for_real_and_made_samples(monkeypatch):
    counts = []
    monkeypatch.setattr(
        "tasks.coreset.synthesis.matching.draw_change",
        lambda count, *more: counts.append(count) or draw_change(count, *more),
    )
    made_of(IMAGES, method="distribution_matching", labels="hard")
    assert counts == [1, 1, 1]


def test_solved_labels_must_be_soft():
    with pytest.raises(ValueError, match="variant is label_solve and labels is hard"):
        section(method="kernel_ridge", variant="label_solve", labels="hard")
