import csv
import json
import logging
import shutil
from collections import Counter
from itertools import count

import numpy as np
import pandas as pd
import pytest
from pydantic import TypeAdapter

from tasks.coreset.collect import proxy_evidence
from tasks.coreset.selection import SELECTIONS
from tasks.coreset.stage import coreset
from tasks.data.dataset import Card, save_dataset
from tasks.data.splits import load_splits
from tasks.files import Files
from tasks.params import Coreset, Proxy

LABELS = np.repeat([0, 1, 2], [40, 25, 10])
FEATURES = np.random.default_rng(0).standard_normal((75, 5)) + LABELS[:, None]
ORDER = np.random.default_rng(0).permutation(75)


@pytest.fixture
def reads(tmp_path):
    """Files of the toy, of which 60 samples are training's."""
    table = pd.DataFrame({"id": range(75), "shift": np.where(np.arange(75) % 2, "night", "day")})
    card = Card(name="t", kind="tabular", samples=0, input_shape=(), classes=("a", "b", "c"), slices=("shift",))
    save_dataset(tmp_path / "data", FEATURES.astype(np.float32), LABELS, table, card)
    np.savez(tmp_path / "split.npz", train=ORDER[:60], validation=ORDER[60:68], test=ORDER[68:])
    return {"data": tmp_path / "data", "split": tmp_path / "split.npz"}


@pytest.fixture
def stage(reads, tmp_path):
    """Run the stage; -> its numbers, files' bytes and report."""
    runs = count()

    def run(**params):
        params = {"judge": None, "expect": None, **params}
        out = tmp_path / str(next(runs))
        numbers = coreset(TypeAdapter(Coreset).validate_python(params), 0, Files(reads, {"coreset": out}))
        with np.load(out / "indices.npz") as file:
            assert set(file["indices"].tolist()) <= set(ORDER[:60].tolist())
            assert len(file["weights"]) == len(file["indices"]) and file["weights"].sum() == pytest.approx(60)
        report = json.loads((out / "report.json").read_text())
        return numbers, [path.read_bytes() for path in sorted(out.iterdir())], report

    return run


@pytest.mark.parametrize("name", SELECTIONS)
def test_every_method_runs_as_a_stage(stage, name):
    numbers, _, report = stage(method=name, fraction=0.5, proxy=Proxy(epochs=2))
    assert numbers["samples"] == 30 and report["method"] == name


@pytest.mark.parametrize("params", [{"method": "herding", "features": "raw"}, {"method": "herding"}, {"method": "ccs"}])
def test_the_stage_run_twice_writes_the_same_bytes(stage, params):
    assert stage(fraction=0.5, **params)[1] == stage(fraction=0.5, **params)[1]


def test_the_stage_selects_training_samples_only_and_counts_them(stage):
    numbers, _, report = stage(method="k_center", per_class=3, features="raw")
    assert report["per_class"] == {"a": 3, "b": 3, "c": 3} and report["of"] == 60
    assert sum(report["per_class_of"].values()) == 60
    assert numbers["samples"] == 9 and numbers["fraction"] == 0.15 and numbers["smallest_class"] == 3


def test_the_report_says_how_far_the_selection_stands_for_all(stage):
    _, _, report = stage(method="stratified", fraction=0.5, features="raw")
    assert 0 <= report["slice_drift_shift"] < 0.5 and report["class_drift"] < 0.05 and 0 < report["mmd"] < 1
    assert 0 <= report["two_sample_auc"] <= 1 and "note" not in report


def test_k_center_covers_more_than_random(stage):
    radius = [stage(method=name, fraction=0.5, features="raw")[0]["coverage_radius"] for name in ("k_center", "random")]
    assert radius[0] < radius[1]


def test_hardest_first_on_little_warns_in_log_and_report(stage, caplog):
    with caplog.at_level(logging.WARNING):
        _, _, report = stage(method="el2n", fraction=0.2)
    assert "ccs or facility_location" in report["note"] and report["note"] in caplog.text


def test_the_judged_stage_writes_its_verdict_and_twice_the_same_bytes(stage):
    numbers, files, report = stage(method="k_center", fraction=0.3, features="raw", judge={"seeds": 2})
    assert report["verdict"] == report["judge"]["verdict"] and report["taken"] == "k_center"
    assert numbers["gain_over_random"] == report["judge"]["gain"]
    assert files == stage(method="k_center", fraction=0.3, features="raw", judge={"seeds": 2})[1]


def test_slices_of_the_validation_split_are_judged(stage, monkeypatch):
    monkeypatch.setattr("tasks.coreset.exam.FEWEST", 1)
    _, _, report = stage(method="herding", fraction=0.5, features="raw", judge={"seeds": 1})
    for figures in report["judge"]["sets"]["chosen"]["models"].values():
        assert 0 <= figures["worst_slice_accuracy"][0] <= figures["accuracy"][0]


def test_what_is_not_proven_better_than_random_falls_back(stage, caplog):
    with caplog.at_level(logging.INFO):
        _, (_, indices, _), report = stage(
            method="herding", fraction=0.5, features="raw", scope="all", judge={"seeds": 1}, fallback="random"
        )
    assert report["method"] == "herding" and report["taken"] == "stratified" and not report["judge"]["beats"]
    assert indices == stage(method="stratified", fraction=0.5, features="raw")[1][1]
    assert "herding is not proven to beat random" in caplog.text and "stratified is taken" in caplog.text


@pytest.mark.parametrize("params", [{"method": "stratified", "fraction": 0.5}, {"method": "herding", "fraction": 1.0}])
def test_random_ones_and_all_are_not_judged(stage, params):
    numbers, _, report = stage(features="raw", judge={}, **params)
    assert "gain_over_random" not in numbers and not {"verdict", "judge"} & set(report)


def test_expectations_hold_and_stand_in_the_report(stage, caplog):
    with caplog.at_level(logging.INFO):
        _, _, report = stage(method="stratified", fraction=0.5, features="raw", expect={})
    expected = report["expected"]
    assert expected["smallest_class"] == {"value": min(report["per_class"].values()), "min": 1}
    assert expected["two_sample_auc"] == {"value": report["two_sample_auc"], "max": 0.95}
    assert set(expected) == {"smallest_class", "class_share_change", "two_sample_auc", "near_duplicates"}
    assert "coreset: 4 expectations met" in caplog.text


def test_what_is_expected_and_does_not_hold_stops_the_stage(stage, tmp_path):
    bounds = {"smallest_class": 5, "near_duplicates": None}
    with pytest.raises(ValueError, match=r"1 of 3 expectations failed: .* classes\.smallest_class \(min_value 5\)"):
        stage(method="herding", fraction=0.5, features="raw", expect=bounds)
    assert not (tmp_path / "0").exists()


def test_shares_that_were_asked_to_change_are_not_expected_to_stay(stage):
    for params in ({"per_class": 3}, {"fraction": 0.5, "scope": "all"}):
        _, _, report = stage(method="stratified", features="raw", expect={"class_share_change": 0.0}, **params)
        assert "class_share_change" not in report["expected"]


def test_all_of_them_need_no_expectations(stage, monkeypatch):
    monkeypatch.setattr("tasks.coreset.stage.check_expectations", None)
    assert "expected" not in stage(method="herding", fraction=1.0, features="raw", expect={})[2]


def test_every_dot_names_a_class_and_a_side(stage):
    _, files, report = stage(method="herding", fraction=0.5, features="raw")
    rows = list(csv.DictReader(files[0].decode().splitlines()))
    assert len(rows) == 60 and sum(int(row["kept"]) for row in rows) == 30
    assert Counter(row["class"] for row in rows) == report["per_class_of"]
    assert 0.4 < report["embedding_variance"] < 1


def test_near_duplicates_may_be_removed_first(stage):
    assert stage(method="random", fraction=0.2, features="raw", dedupe={"threshold": 0.9})[0]["samples"] == 12


def test_a_class_that_ends_empty_is_named(stage):
    with pytest.raises(ValueError, match="coreset: herding left class 'c' without a sample; take more, or stratified"):
        stage(method="herding", per_class=1, scope="all", features="raw")


def test_another_method_goes_by_the_kept_evidence_and_chooses_the_same(reads, stage, tmp_path, caplog):
    def chosen(method):
        out = tmp_path / f"kept {method}"
        section = {"method": method, "fraction": 0.5, "judge": None, "expect": None, "proxy": {"epochs": 2}}
        files = Files(reads, {"coreset": out}, tmp_path / "scratch")
        coreset(TypeAdapter(Coreset).validate_python(section), 0, files)
        return (out / "indices.npz").read_bytes()

    with caplog.at_level(logging.INFO):
        kept = {method: chosen(method) for method in ("ccs", "k_center", "herding")}
    assert caplog.text.count("proxy trained for 2 epochs") == 1 and caplog.text.count("proxy kept by an earlier") == 2
    for method, found in kept.items():
        assert found == stage(method=method, fraction=0.5, proxy={"epochs": 2})[1][1]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (
            {"fraction": 0.01},
            r"coreset\.fraction is 0\.01; it leaves class \d of \d+ samples empty; at least 0\.12 keeps one",
        ),
        ({"per_class": 50}, r"coreset\.per_class is 50; class 0 has only \d+ samples"),
        (
            {"fraction": 0.5, "features": "raw"},
            r"coreset\.features: 1 of 60 samples .* not finite, .* training sample 3",
        ),
        ({"fraction": 0.5}, r"coreset\.proxy: the loss is nan in epoch 1; set features: raw"),
    ],
    ids=["fraction", "per_class", "NaN", "NaN at the proxy"],
)
def test_what_cannot_be_done_is_one_line(stage, reads, params, message):
    x = np.load(reads["data"] / "x.npy")
    x[ORDER[3], 1] = np.nan
    np.save(reads["data"] / "x.npy", x)
    with pytest.raises(ValueError, match=message) as error:
        stage(method="herding", **params)
    assert "\n" not in str(error.value)


def test_a_single_class_is_one_line(stage, reads):
    table = pd.DataFrame({"id": range(75)})
    card = Card(name="t", kind="tabular", samples=0, input_shape=(), classes=("a",))
    shutil.rmtree(reads["data"])
    save_dataset(reads["data"], FEATURES.astype(np.float32), np.zeros(75, int), table, card)
    with pytest.raises(ValueError, match="coreset: the data has 1 class; there is nothing to learn from less than two"):
        stage(method="herding", fraction=0.5)


def test_the_proxy_s_history_is_that_of_its_epochs(reads):
    data = load_splits(reads)
    found = proxy_evidence(data, Proxy(epochs=4, early=2), 0, dynamics=True)
    assert found.right.shape == found.margins.shape == (4, 60) and found.right.dtype == bool
    assert found.features.shape == (60, 32) and found.features.dtype == np.float32
    np.testing.assert_allclose(found.probabilities.sum(1), 1, rtol=1e-5)
    assert ((found.margins[1] > 0) == found.right[1]).all()  # a positive margin is a right answer
    assert ((found.probabilities.argmax(1) == found.labels) == found.right[1]).all()
    assert (found.hidden_norms >= 1).all() and ((found.recalls >= 0) & (found.recalls <= 1)).all()


def test_looking_at_the_samples_does_not_change_what_is_learned(reads):
    data = load_splits(reads)
    looked, plain = (proxy_evidence(data, Proxy(epochs=3), 0, dynamics=dynamics) for dynamics in (True, False))
    assert np.array_equal(looked.features, plain.features) and plain.right is None
