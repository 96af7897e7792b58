import json

import numpy as np
import pandas as pd
import pytest
import torch
from toy import card

from tasks.data.dataset import save_dataset
from tasks.data.splits import load_splits
from tasks.data.synthesized import load_synthesized, save_synthesized, unpacked

CARD = card((1, 4, 6))
RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (4, 1, 4, 6)).astype(np.uint8)
Y = RNG.dirichlet(np.ones(3), 4).astype(np.float32)


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "coreset"
    place.mkdir()
    save_synthesized(place, X, Y, CARD, "kernel_ridge")
    return place


def test_what_was_saved_is_read(folder):
    found = load_synthesized(folder, CARD)
    assert np.array_equal(found.inputs(slice(None)).numpy(), X.astype(np.float32)) and len(found) == 4
    assert np.array_equal(found.targets(slice(1, 3)).numpy(), Y[1:3]) and found.weights is None
    assert json.loads((folder / "card.json").read_text())["source"]["method"] == "kernel_ridge"


def test_a_grid_is_read_as_the_images_in_it(folder):
    rows = RNG.dirichlet(np.ones(3), 16).astype(np.float32)
    np.save(folder / "y.npy", rows)
    found = load_synthesized(folder, CARD)
    assert len(found) == 16 and found.shape == (1, 4, 6)
    wanted = unpacked(torch.from_numpy(X.astype(np.float32)), 2)
    torch.testing.assert_close(found.inputs(slice(None)), wanted)
    assert np.array_equal(found.targets(slice(None)).numpy(), rows)


def test_splits_take_it_for_the_coreset(folder, tmp_path):
    save_dataset(
        tmp_path / "data", np.zeros((9, 1, 4, 6), np.uint8), np.arange(9) % 3, pd.DataFrame({"id": range(9)}), CARD
    )
    np.savez(tmp_path / "split.npz", train=np.arange(5), validation=np.arange(5, 7), test=np.arange(7, 9))
    data = load_splits({"data": tmp_path / "data", "split": tmp_path / "split.npz", "coreset": folder})
    assert len(data.coreset) == 4 and data.coreset.targets(slice(None)).shape == (4, 3) and len(data.train) == 5


def test_sets_of_other_content_are_told_apart(folder):
    first = load_synthesized(folder, CARD).identity()
    assert first == load_synthesized(folder, CARD).identity()
    np.save(folder / "x.npy", X[::-1])
    assert load_synthesized(folder, CARD).identity() != first


BAD_ROWS = {
    "sum": Y * 0.9,
    "negative": np.float32([[1.2, -0.2, 0]] * 4),
    "nan": np.where(Y > 0.5, np.nan, Y).astype(np.float32),
    "type": Y.astype(np.float64),
}


@pytest.mark.parametrize("rows", BAD_ROWS.values(), ids=BAD_ROWS)
def test_rows_that_are_no_probabilities_are_refused(folder, rows):
    np.save(folder / "y.npy", rows)
    with pytest.raises(ValueError, match=r"y\.npy: must be float32 rows of probabilities that sum to 1"):
        load_synthesized(folder, CARD)


SHAPES = {
    "sample": (np.zeros((4, 1, 6, 4)), Y),
    "rows": (X, np.concatenate([Y, Y])),
    "grid that does not divide": (X, np.tile(Y, (9, 1))),
    "classes": (X, Y[:, :2]),
    "flat": (X, Y[:, 0]),
    "none": (X[:0], Y[:0]),
    "fewer rows": (X, Y[:3]),
    "scalar": (np.float32(1), Y),
}


@pytest.mark.parametrize(("x", "y"), SHAPES.values(), ids=SHAPES)
def test_shapes_that_do_not_fit_are_named(folder, x, y):
    np.save(folder / "x.npy", x)
    np.save(folder / "y.npy", y)
    with pytest.raises(ValueError, match=r"coreset: x is .* and y .*; it must be n of \(1, 4, 6\)"):
        load_synthesized(folder, CARD)


def test_values_that_are_not_finite_are_refused(folder):
    np.save(folder / "x.npy", np.full(X.shape, np.inf, np.float32))
    with pytest.raises(ValueError, match=r"x\.npy: holds values that are not finite"):
        load_synthesized(folder, CARD)


def test_objects_are_never_unpickled(folder):
    np.save(folder / "x.npy", np.array([print], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"x\.npy: not a readable \.npy file"):
        load_synthesized(folder, CARD)


@pytest.mark.parametrize("name", ["x.npy", "y.npy"])
def test_a_file_cut_short_is_refused(folder, name):
    (folder / name).write_bytes((folder / name).read_bytes()[:-8])
    with pytest.raises(ValueError, match=r"\.npy: not a readable"):
        load_synthesized(folder, CARD)


def test_text_is_no_sample(folder):
    np.save(folder / "x.npy", X.astype("U3"))
    with pytest.raises(ValueError, match=r"x\.npy: holds <U3; it must be numbers"):
        load_synthesized(folder, CARD)


def test_a_missing_file_names_the_stage(folder):
    (folder / "y.npy").unlink()
    with pytest.raises(FileNotFoundError, match=r"y\.npy is missing; `downsize stage coreset` makes it"):
        load_synthesized(folder, CARD)


def test_a_set_made_for_other_data_is_refused(folder):
    with pytest.raises(ValueError, match=r"made for 3 classes and image inputs of \(1, 4, 6\), the data has"):
        load_synthesized(folder, card((1, 8, 8)))


def test_a_card_that_is_none_is_refused(folder):
    (folder / "card.json").write_text("{")
    with pytest.raises(ValueError, match=r"card\.json: not a readable card"):
        load_synthesized(folder, CARD)
