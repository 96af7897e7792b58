import itertools

import numpy as np
import pandas as pd
import pytest

from tasks.data.dataset import Card, save_dataset
from tasks.data.describe import content_hashes
from tasks.files import Files
from tasks.params import Split
from tasks.split import apportion, deal, split, tied

PARTS = ("train", "validation", "test")


@pytest.fixture
def run(tmp_path):
    """Split rows whose content is `x` (by default no two alike), under further columns; -> row numbers and metrics."""
    runs = itertools.count()

    def run(y, x=None, seed=0, params=None, **columns):
        folder = tmp_path / str(next(runs))
        y = np.asarray(y)
        x = np.arange(len(y))[:, None] if x is None else np.asarray(x)[:, None]
        table = pd.DataFrame({"id": np.arange(len(y)), **columns, "sha1": content_hashes(x)})
        card = Card(
            name="t",
            kind="tabular",
            samples=0,
            input_shape=(),
            classes=tuple("abcdefghij"[: y.max() + 1]),
            group="group" if "group" in columns else None,
            given_split="given" if "given" in columns else None,
        )
        save_dataset(folder / "data", x, y, table, card)
        metrics = split(params or Split(), seed, Files({"data": folder / "data"}, {"split": folder / "split.npz"}))
        run.bytes = (folder / "split.npz").read_bytes()
        with np.load(folder / "split.npz", allow_pickle=False) as found:
            rows = {name: found[name] for name in found}
        assert list(rows) == list(PARTS) and all(part.dtype == np.int64 for part in rows.values())
        assert all((np.diff(part) > 0).all() for part in rows.values())  # sorted, no row twice
        together = np.concatenate(list(rows.values()))
        assert len(set(together)) == len(together) == len(y) - metrics["dropped"]
        assert metrics == {**{name: len(part) for name, part in rows.items()}, "dropped": metrics["dropped"]}
        return rows, metrics

    return run


def side(rows, n):
    """(n,) the part of each row, or nothing."""
    found = np.full(n, "", dtype="U10")
    for name, part in rows.items():
        found[part] = name
    return found


def test_every_class_keeps_its_share_exactly(run):
    y = np.repeat([0, 1, 2], [100, 50, 10])
    rows, metrics = run(y)
    assert metrics == {"train": 112, "validation": 16, "test": 32, "dropped": 0}
    assert {name: np.bincount(y[part]).tolist() for name, part in rows.items()} == {
        "train": [70, 35, 7],
        "validation": [10, 5, 1],
        "test": [20, 10, 2],
    }


def test_the_seed_decides_and_nothing_else(run):
    y = np.arange(300) % 3
    same, first = run(y, seed=1)[0], run.bytes
    again = run(y, seed=1)[0]
    assert run.bytes == first and (same["test"] == again["test"]).all()
    other = run(y, seed=2)[0]
    shared = len(set(same["test"]) & set(other["test"]))
    assert 4 <= shared <= 22  # of 60, 12 by chance; no row is favoured


def test_duplicates_stay_together(run):
    x = np.random.default_rng(0).integers(0, 60, 300)
    rows, _ = run(np.arange(300) % 3, x)
    assert pd.Series(side(rows, 300)).groupby(x).nunique().max() == 1


def test_groups_stay_together_and_shares_nearly(run):
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 40, 1000)
    y = rng.integers(0, 4, 1000)
    rows, metrics = run(y, group=groups)
    assert pd.Series(side(rows, 1000)).groupby(groups).nunique().max() == 1
    assert metrics["test"] == pytest.approx(200, abs=30) and metrics["validation"] == pytest.approx(100, abs=30)


def test_a_group_tied_to_another_by_a_duplicate_goes_with_it(run):
    groups = np.repeat(np.arange(30), 4)
    x = np.arange(120)
    x[3::4] = [*x[4::4], 119]  # the last row of each group is the first of the next: one chain
    with pytest.raises(ValueError, match="class 'a' is not in validation or test: it has 60 samples in 1 units"):
        run(np.arange(120) % 2, x, group=groups)


def test_the_params_group_comes_before_the_cards(run):
    rows, _ = run(np.arange(60) % 2, group=np.arange(60) // 30, site=np.arange(60) // 6, params=Split(group="site"))
    found = pd.Series(side(rows, 60))
    assert found.groupby(np.arange(60) // 6).nunique().max() == 1
    assert found.groupby(np.arange(60) // 30).nunique().max() > 1


def test_three_groups_of_a_class_go_to_the_three_parts(run):
    """By shares alone train would take two of them."""
    y = np.repeat([0, 1], 30)
    rows, _ = run(y, group=np.arange(60) // 10)
    assert {name: np.bincount(y[part]).tolist() for name, part in rows.items()} == {name: [10, 10] for name in PARTS}


def test_a_given_test_split_stands_and_validation_is_cut_from_train(run):
    y = np.arange(100) % 2
    given = np.where(np.arange(100) < 80, "train", "test")
    rows, metrics = run(y, given=given)
    assert rows["test"].tolist() == list(range(80, 100))
    assert metrics["validation"] == 8 and np.bincount(y[rows["validation"]]).tolist() == [4, 4]


def test_a_given_validation_split_stands_too(run):
    given = np.repeat(PARTS, 10)
    rows, _ = run(np.arange(30) % 2, given=given)
    assert (side(rows, 30) == given).all()


def test_training_rows_seen_in_the_given_test_split_are_dropped(run):
    x = np.arange(100)
    x[[3, 4]] = x[90]
    x[98] = x[99]  # both in test: no harm
    given = np.where(np.arange(100) < 80, "train", "test")
    rows, metrics = run(np.arange(100) % 2, x, given=given, params=Split(max_overlap=0.05))
    found = side(rows, 100)
    assert metrics["dropped"] == 2 and found[[3, 4]].tolist() == ["", ""] and metrics["test"] == 20


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"y": [0] * 20 + [1] * 2}, "class 'b' is not in validation: it has 2 samples in 2 units"),
        ({"y": [0] * 20, "group": [None] + ["g"] * 19}, "split.group: 'group' is missing in 1 of 20 rows, id 0"),
        ({"y": [0] * 20, "site": ["g"] * 20, "params": Split(group="sit")}, "split.group: column 'sit' does not exist"),
        (
            {"y": [0] * 20, "group": ["g"] * 20, "given": ["train", "test"] * 10},
            "1 of 1 groups of 'group' lie on two sides of the given split, e.g. g",
        ),
        (
            {"y": [0, 1] * 10, "x": [0, *range(18), 0], "given": ["train"] * 16 + ["test"] * 4},
            r"1 of 4 rows of the given test split \(25.00%\) have the same content as training .*, e.g. id 19; "
            "split.max_overlap is 0.01",
        ),
        ({"y": [0, 1] * 9 + [0] * 2, "given": ["train"] * 18 + ["test"] * 2}, "class 'b' is not in test"),
    ],
)
def test_what_cannot_be_split(run, arguments, says):
    with pytest.raises(ValueError, match=says) as error:
        run(**arguments)
    assert "\n" not in str(error.value)


# --- the maths -------------------------------------------------------------------------------------------------------


def test_tied_by_hand():
    keys = [pd.Series(["a", "b", "b", "c", "d"]), pd.Series([1, 1, 2, 3, 3])]
    assert tied(keys).tolist() == [0, 0, 0, 1, 1]  # 0-1 by the number, 1-2 by the letter, 3-4 by the number


@pytest.mark.parametrize(
    ("total", "weights", "want"),
    [
        (10, [0.7, 0.1, 0.2], [7, 1, 2]),
        (3, [0.7, 0.1, 0.2], [1, 1, 1]),
        (4, [0.7, 0.1, 0.2], [2, 1, 1]),
        (100, [0.999, 0.0005, 0.0005], [98, 1, 1]),
        (0, [0.7, 0.1, 0.2], [0, 0, 0]),
    ],
)
def test_apportion_by_hand(total, weights, want):
    assert apportion(total, weights).tolist() == want


def test_apportion_takes_from_a_part_that_can_spare_one():
    lacking = np.array([False, True, True])
    assert apportion(2, np.array([5, 1, 1]), lacking).tolist() == [0, 1, 1]
    assert apportion(2, np.array([1, 1, 0]), np.array([True, False, True])).tolist() == [1, 0, 1]


def test_deal_is_fast_enough_for_many_groups():
    rng = np.random.default_rng(0)
    units = np.sort(rng.integers(0, 20_000, 60_000))
    part = deal(np.unique(units, return_inverse=True)[1], rng.integers(0, 10, 60_000), [0.7, 0.1, 0.2], rng)
    assert np.bincount(part).tolist() == pytest.approx([42_000, 6_000, 12_000], abs=10)
