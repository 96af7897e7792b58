import numpy as np
import pandas as pd
import pytest

from tasks.data import describe
from tasks.data.describe import content_hashes, image_statistics, is_identifier, scan, tells_label


@pytest.fixture(params=[1, 1 << 23])
def block_bytes(request, monkeypatch):
    """One sample at a time, and all at once."""
    monkeypatch.setattr(describe, "BLOCK_BYTES", request.param)


@pytest.mark.usefixtures("block_bytes")
def test_scan_by_hand():
    x = np.array([[1, np.nan, 5], [2, np.inf, 5], [3, np.nan, 5]], np.float32)
    found = scan(x)
    assert found.non_finite.tolist() == [1, 1, 1]
    assert found.nan.tolist() == [0, 2, 0] and found.inf.tolist() == [0, 1, 0]
    assert found.low.tolist() == [1, np.inf, 5] and found.high.tolist() == [3, np.inf, 5]


@pytest.mark.usefixtures("block_bytes")
def test_image_statistics_by_hand():
    x = np.zeros((2, 1, 1, 4), np.float32)
    x[0] = [1, 1, 3, 3]
    x[1, 0, 0, 0] = np.nan
    first, second = image_statistics(x).to_dict("records")
    assert first == dict(height=1, width=4, channels=1, mean=2, std=1, min=1, max=3, nan_fraction=0)
    assert second["nan_fraction"] == 0.25 and np.isnan(second["mean"])


@pytest.mark.usefixtures("block_bytes")
def test_hashes_are_equal_for_equal_content_only():
    x = np.array([[1, 2], [2, 1], [1, 2]], np.uint8)
    first, second, third = content_hashes(x)
    assert first == third != second


def test_identifiers_are_whole_and_distinct():
    assert is_identifier(pd.Series([7.0, 5.0, 9.0]))
    assert not is_identifier(pd.Series([7, 5, 7]))
    assert not is_identifier(pd.Series([0.5, 1.5, 9.0]))
    assert not is_identifier(pd.Series([1, None, 9]))


Y = np.repeat([0, 1, 2], 20)


@pytest.mark.parametrize(
    "ids",
    [
        pd.Series(np.arange(60)),
        pd.Series(np.arange(60)[::-1]),
        pd.Series([str(i) for i in range(60)]),  # by number: as text 10 comes before 2
        pd.Series([f"{['cat', 'dog', 'elk'][label]}_{i % 7}{i}" for i, label in enumerate(Y)]),
        pd.Series([*range(1, 20), 20.5, 19.5, *range(21, 60)]),  # one pair out of place
    ],
)
def test_an_order_that_sorts_the_classes_tells_them(ids):
    assert tells_label(ids, Y)
    shuffled = np.random.default_rng(0).permutation(60)
    assert tells_label(ids[shuffled].reset_index(drop=True), Y[shuffled])


def test_an_order_without_relation_tells_nothing():
    order = pd.Series(np.random.default_rng(0).permutation(60))
    assert not tells_label(order, Y)


def test_nothing_is_concluded_from_a_handful():
    assert not tells_label(pd.Series(range(8)), np.repeat([0, 1], 4))
    assert not tells_label(pd.Series(range(1000)), np.array([0] * 999 + [1]))  # 1 in 500 by chance


def test_chance_alone_is_never_taken_for_a_sign():
    rng = np.random.default_rng(0)
    y = np.array([0] * 900 + [1] * 100)
    assert not any(tells_label(pd.Series(rng.permutation(1000)), y) for _ in range(200))
