import numpy as np
import pandas as pd
import pytest
import torch
from toy import card

from tasks.data import splits
from tasks.data.batches import Samples
from tasks.data.dataset import load_dataset, save_dataset
from tasks.data.splits import load_splits, moments

X = np.arange(40, dtype=np.float32).reshape(10, 4)
Y = np.arange(10) % 3
PARTS = {"train": np.array([9, 0, 3, 4, 5, 8]), "validation": np.array([1, 2]), "test": np.array([7, 6])}


@pytest.fixture
def reads(tmp_path):
    save_dataset(tmp_path / "data", X, Y, pd.DataFrame({"id": range(10)}), card((4,)))
    np.savez(tmp_path / "split.npz", **PARTS)
    return {"data": tmp_path / "data", "split": tmp_path / "split.npz"}


def test_each_part_holds_its_own_samples(reads):
    data = load_splits(reads)
    for name, indices in PARTS.items():
        part = getattr(data, name)
        assert part.inputs(slice(None)).tolist() == X[indices].tolist()
        assert part.targets(slice(None)).tolist() == Y[indices].tolist()
    assert data.card.samples == 10 and data.card.input_shape == (4,)


def test_without_a_coreset_the_student_sees_all_of_train(reads):
    assert load_splits(reads).coreset.indices.tolist() == PARTS["train"].tolist()


def test_a_coreset_is_read_where_there_is_one(reads, tmp_path):
    (tmp_path / "coreset").mkdir()
    np.savez(tmp_path / "coreset" / "indices.npz", indices=np.array([9, 4]))
    data = load_splits({**reads, "coreset": tmp_path / "coreset"})
    assert data.coreset.indices.tolist() == [9, 4] and len(data.train) == 6


@pytest.mark.parametrize(("weights", "kept"), [([1.0, 3.0], [1.0, 3.0]), ([3.0, 3.0], None)])
def test_a_coreset_s_weights_are_read_where_they_differ(reads, tmp_path, weights, kept):
    (tmp_path / "coreset").mkdir()
    np.savez(tmp_path / "coreset" / "indices.npz", indices=np.array([9, 4]), weights=np.array(weights))
    found = load_splits({**reads, "coreset": tmp_path / "coreset"}).coreset.weights
    assert (None if found is None else found.tolist()) == kept


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0], [1.0, np.nan]])
def test_weights_that_are_none_are_refused(reads, tmp_path, weights):
    (tmp_path / "coreset").mkdir()
    np.savez(tmp_path / "coreset" / "indices.npz", indices=np.array([9, 4]), weights=np.array(weights))
    with pytest.raises(ValueError, match="'weights' must be one number of at least 0 per index"):
        load_splits({**reads, "coreset": tmp_path / "coreset"})


def test_samples_stay_on_disk_until_they_are_asked_for(reads):
    assert isinstance(load_splits(reads).train.x, np.memmap)


@pytest.mark.parametrize("wrong", [[0, 10], [-1, 3]])
def test_an_index_outside_the_data_is_refused(reads, wrong):
    np.savez(reads["split"], **{**PARTS, "test": np.array(wrong)})
    with pytest.raises(ValueError, match=r"split.npz: 'test' points outside the 10 samples of .*data$"):
        load_splits(reads)


def test_a_missing_part_is_named_with_those_there_are(reads):
    np.savez(reads["split"], train=PARTS["train"])
    with pytest.raises(ValueError, match=r"split.npz: has no 'validation', only train$"):
        load_splits(reads)


@pytest.mark.parametrize("name", ["x.npy", "card.json"])
def test_a_missing_file_names_the_stage_that_makes_it(reads, name):
    (reads["data"] / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"{name} is missing; `downsize stage ingest` makes it"):
        load_splits(reads)


def test_arrays_and_card_that_disagree_are_refused(reads):
    np.save(reads["data"] / "y.npy", Y[:9])
    with pytest.raises(ValueError, match=r"x is \(10, 4\) and y \(9,\), card.json says 10 of \(4,\)"):
        load_dataset(reads["data"])


def test_moments_of_a_table_are_per_feature(reads):
    mean, deviation = moments(load_splits(reads).train)
    np.testing.assert_allclose(mean, X[PARTS["train"]].mean(0))
    np.testing.assert_allclose(deviation, X[PARTS["train"]].std(0))


@pytest.mark.parametrize("block", [1, 4, 4096])
def test_moments_of_images_are_per_channel_whatever_the_block(monkeypatch, block):
    monkeypatch.setattr(splits, "BLOCK", block)
    x = np.random.default_rng(0).normal([[[[3]], [[100]]]], 2, (9, 2, 5, 4)).astype(np.float32)
    mean, deviation = moments(Samples(x, np.zeros(9, np.int64), np.arange(9)))
    assert mean.shape == deviation.shape == (2, 1, 1)
    np.testing.assert_allclose(mean.flatten(), x.mean((0, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(deviation.flatten(), x.std((0, 2, 3)), rtol=1e-5)


def test_a_constant_far_from_zero_has_no_deviation():
    mean, deviation = moments(Samples(np.full((1000, 1), 12345.0), np.zeros(1000, np.int64), np.arange(1000)))
    assert float(mean) == 12345 and float(deviation) < 1e-3
    assert mean.dtype == torch.float64
