import numpy as np
import pytest
import torch
from toy import blobs

from tasks.data.batches import Samples, _resampled, balanced, in_order, shuffled, steps_per_epoch


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_samples_are_read_through_their_indices():
    x, y = np.arange(10, dtype=np.uint8)[:, None], np.arange(10) * 10
    samples = Samples(x, y, np.array([7, 2, 5]))
    assert len(samples) == 3
    assert samples.inputs(np.array([2, 0])).tolist() == [[5], [7]]
    assert samples.inputs(slice(None)).dtype == torch.float32
    assert samples.targets(slice(1, 3)).tolist() == [20, 50]


@pytest.mark.parametrize("batch_size", [1, 7, 60, 100])
def test_in_order_gives_all_samples_in_their_order(batch_size):
    data = blobs()
    inputs, targets = (torch.cat(parts) for parts in zip(*in_order(data, batch_size), strict=True))
    assert torch.equal(inputs, torch.from_numpy(data.x)) and torch.equal(targets, torch.from_numpy(data.y))


@pytest.mark.parametrize(("batch_size", "steps", "size"), [(16, 3, 16), (20, 3, 20), (60, 1, 60), (128, 1, 60)])
def test_an_epoch_draws_no_sample_twice_in_equal_batches(batch_size, steps, size):
    batches = list(shuffled(blobs(), batch_size, generator()))
    assert [len(batch) for batch in batches] == [size] * steps and steps_per_epoch(blobs(), batch_size) == steps
    drawn = np.concatenate(batches)
    assert len(set(drawn.tolist())) == len(drawn) and drawn.tolist() != sorted(drawn.tolist())


def test_each_epoch_has_its_own_order_and_each_seed_too():
    one = generator()
    first, second, again, other = (
        np.concatenate(list(shuffled(blobs(), 20, source))).tolist() for source in (one, one, generator(), generator(1))
    )
    assert first == again and first != second and first != other


def test_first_draws_without_replacement_and_takes_the_weights_along():
    data = Samples(blobs().x, blobs().y, np.arange(60)[::-1], np.arange(60.0))
    part = data.first(10, seed=0)
    assert len(set(part.indices.tolist())) == 10
    assert part.weights.tolist() == [59 - index for index in part.indices]
    assert part.indices.tolist() == data.first(10, seed=0).indices.tolist() != data.first(10, seed=1).indices.tolist()
    assert data.first(60, seed=0) is data and data.first(99, seed=0) is data


def weighted(weights):
    data = blobs(len(weights))
    return Samples(data.x, data.y, data.indices, np.asarray(weights, float))


def times(samples, seed, batch_size=None):
    """How often each sample comes in one epoch."""
    drawn = np.concatenate(list(shuffled(samples, batch_size or len(samples), generator(seed))))
    return np.bincount(drawn, minlength=len(samples))


@pytest.mark.parametrize(
    "weights", [[1, 2, 3, 0, 4], [0.1] * 7, [5, 1e-9, 1e-9], [0, 0, 1], [0.3, 0.7, 1.1, 2.3, 0.9, 3]]
)
def test_each_sample_comes_at_least_its_whole_share_of_times_and_at_most_once_more(weights):
    share = np.array(weights) / np.sum(weights) * len(weights)
    counts = np.stack([times(weighted(weights), seed) for seed in range(200)])
    assert (counts.sum(1) == len(weights)).all()
    assert (counts >= np.floor(share + 1e-9)).all() and (counts <= np.ceil(share - 1e-9)).all()
    np.testing.assert_allclose(counts.mean(0), share, atol=0.12)


@pytest.mark.parametrize("count", [3, 10, 60, 1000])
def test_equal_weights_give_a_permutation(count):
    assert all((times(weighted(np.full(count, 0.1)), seed) == 1).all() for seed in range(20))


def test_equal_weights_give_a_permutation_even_at_the_smallest_offset():
    assert _resampled(np.full(60, 0.25), 0.0).tolist() == list(range(60))
    assert _resampled(np.array([0.0, 1, 1, 0]), 0.0).tolist() == [1, 1, 2, 2]


def test_weighted_epochs_are_shuffled_each_in_its_own_order():
    one, samples = generator(), weighted(np.arange(1, 61))
    first, second = (np.concatenate(list(shuffled(samples, 60, one))).tolist() for _ in range(2))
    assert first != sorted(first) and first != second


def rare(weights=None):
    """Nine samples of class 0, three of class 1, none of class 2, one of class 3."""
    y = np.array([0] * 9 + [1] * 3 + [3])
    return Samples(np.zeros((13, 4), np.float32), y, np.arange(13), weights)


@pytest.mark.parametrize("weights", [None, np.arange(1, 14.0)])
def test_balanced_samples_have_the_same_total_in_every_class(weights):
    samples = balanced(rare(weights))
    totals = np.bincount(samples.y, samples.weights)
    assert totals[[0, 1, 3]] == pytest.approx(totals[0]) and totals[2] == 0


def test_balancing_leaves_the_proportions_within_a_class():
    own = np.arange(1, 14.0)
    found = balanced(rare(own)).weights
    assert found[:9] / found[0] == pytest.approx(own[:9]) and found[9:12] / found[9] == pytest.approx(own[9:12] / 10)


def test_a_balanced_epoch_has_the_classes_in_equal_parts():
    samples = balanced(rare())
    counts = sum(np.bincount(samples.y, times(samples, seed), minlength=4) for seed in range(100))
    assert counts[[0, 1, 3]] / 1300 == pytest.approx(1 / 3, abs=0.01)
