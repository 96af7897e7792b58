"""prune on a toy project's files."""

import csv
from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from toy import blobs, pictures, save_splits

from tasks import checkpoint
from tasks.data.splits import load_splits, moments
from tasks.files import Files
from tasks.measure.size import macs, parameters
from tasks.params import Factory, Prune
from tasks.prune import cost, stage
from tasks.prune.operations import Operation
from tasks.prune.scopes import SCOPES
from tasks.prune.stage import prune
from tasks.prune.unstructured import weights
from tasks.training import loop
from tasks.training.curves import read_curves

LIMITS = (0.3, 0.5)  # of the drops of accuracy and of a class's recall
TRAIN = {"epochs": 2, "batch_size": 16}
PATTERNS = {
    "channel": {"pattern": "channel", "target": {"macs": 0.5}},
    "unstructured": {"pattern": "unstructured", "target": {"sparsity": 0.6}},
    "n_m": {"pattern": "n_m", "criterion": {"method": "taylor"}},
}


@pytest.fixture(scope="module")
def reads(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    found = save_splits(folder, blobs(180))
    data = load_splits(found)
    for name, hidden in (("teacher", [32]), ("student", [16, 12])):
        factory = Factory(factory="tasks.models.mlp:MLP", args={"hidden": hidden})
        checkpoint.save(
            checkpoint.build(factory, data.card, moments(data.train), 0, "model"), data.card, folder / name, parent=None
        )
    return {**found, "teacher": folder / "teacher", "student": folder / "student"}


@pytest.fixture
def epochs(monkeypatch):
    """Counts epochs as they are trained; fails in front of the measuring of number `stop`."""
    real, counted = loop._judge_, {"trained": 0, "stop": None}

    def judge(*arguments):
        counted["trained"] += 1
        if counted["trained"] == counted["stop"]:
            raise InterruptedError
        real(*arguments)

    monkeypatch.setattr(loop, "_judge_", judge)
    monkeypatch.setattr(stage, "export", lambda *_: None)
    return counted


def pruned(folder, reads, pattern, scratch=None, limits=LIMITS):
    given = {
        **PATTERNS[pattern],
        "schedule": {"method": "linear", "steps": 3},
        "recovery": {"losses": [{"method": "kd"}], "step": TRAIN, "final": {**TRAIN, "ema": 0.9}},
    }
    params = TypeAdapter(Prune).validate_python(given)
    writes = {"pruned": folder / "pruned", "diary": folder / "beside"}
    metrics = prune(params, *limits, 0, Files(reads, writes, scratch))
    return metrics, {path.name: path.read_bytes() for path in (folder / "pruned").iterdir()}


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("stop", [1, 2, 3, 4, 6])
def test_stopped_in_any_recovery_it_ends_with_the_same_bytes(tmp_path, reads, epochs, pattern, stop):
    unbroken = pruned(tmp_path / "unbroken", reads, pattern)
    epochs.update(trained=0, stop=stop)
    with pytest.raises(InterruptedError):
        pruned(tmp_path / "stopped", reads, pattern, tmp_path / "scratch")
    epochs.update(trained=0, stop=None)
    assert pruned(tmp_path / "again", reads, pattern, tmp_path / "scratch") == unbroken
    assert epochs["trained"] == 6 - (stop - 1)
    assert len(list((tmp_path / "scratch/answers").iterdir())) == 1


@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_target_is_met_and_each_step_has_its_own_curve(tmp_path, reads, epochs, pattern):
    metrics, _ = pruned(tmp_path, reads, pattern)
    if pattern == "channel":
        assert 0.3 < metrics["macs_share"] <= 0.5
    else:
        weights = 4 * 16 + 16 * 12 + 12 * 3
        zeros = metrics["sparsity"] * metrics["parameters"]
        share = {"unstructured": 0.6, "n_m": 0.5}[pattern]
        assert zeros == pytest.approx(share * weights, abs=20)  # a fresh BatchNorm has zeros of its own
    rows = read_curves(tmp_path / "pruned/training.csv")
    assert [row["series"] for row in rows] == list(np.repeat(["recovery_1", "recovery_2", "recovery_3"], 2))


def test_the_log_says_that_n_m_gains_no_speed(tmp_path, reads, epochs, caplog):
    pruned(tmp_path, reads, "n_m")
    assert "prune: 2:4 gains no speed on a CPU" in caplog.text


def test_all_that_is_not_the_default_works_together(tmp_path, reads, epochs, monkeypatch):
    more = {"criterion": {"method": "taylor"}, "scope": "global", "compensate": True, "protect": {"last": True}}
    monkeypatch.setitem(PATTERNS, "channel", {"pattern": "channel", "target": {"parameters": 0.7}, **more})
    metrics, files = pruned(tmp_path / "once", reads, "channel")
    assert 0.4 < metrics["parameters_share"] <= 0.7
    assert pruned(tmp_path / "again", reads, "channel") == (metrics, files)


def rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_diary_has_a_row_per_step_and_its_seconds_lie_beside(tmp_path, reads, epochs):
    metrics, _ = pruned(tmp_path, reads, "channel")
    kept, beside = rows(tmp_path / "pruned/diary.csv"), rows(tmp_path / "beside/diary.csv")
    assert [row["step"] for row in kept] == ["step 1", "step 2", "step 3"] and "seconds" not in kept[0]
    assert [{**row, "seconds": timed["seconds"]} for row, timed in zip(kept, beside, strict=True)] == beside
    assert all(float(row["seconds"]) > 0 for row in beside)
    assert int(kept[2]["macs"]) == metrics["macs"] < int(kept[1]["macs"]) < int(kept[0]["macs"])
    assert float(kept[2]["accuracy"]) == metrics["accuracy"]


LADDER = {"pattern": "channel", "target": "budget", "ladder": {"shares": [0.7, 0.5, 0.3]}, "round_to": 1}


@pytest.mark.parametrize(("allowed", "rungs"), [(1.0, [True] * 3), (0.0, [False])])
def test_with_target_budget_it_goes_down_while_the_budget_lasts(
    tmp_path, reads, epochs, monkeypatch, caplog, allowed, rungs
):
    monkeypatch.setitem(PATTERNS, "ladder", LADDER)
    limits = (allowed, None)
    metrics, files = pruned(tmp_path / "once", reads, "ladder", limits=limits)
    diary = rows(tmp_path / "once/pruned/diary.csv")
    assert [row["inside"] == "True" for row in diary[:-1]] == rungs
    assert [row["step"] for row in diary] == [*(f"rung {place + 1}" for place in range(len(rungs))), "final"]
    if allowed:
        assert 0.2 < metrics["macs_share"] <= 0.3 and int(diary[-1]["macs"]) == int(diary[-2]["macs"])
    else:
        assert metrics["macs_share"] == 1 and "no rung of the ladder is within it" in caplog.text
    assert pruned(tmp_path / "again", reads, "ladder", limits=limits) == (metrics, files)


def test_where_the_final_recovery_leaves_the_budget_the_model_before_it_is_handed_on(
    tmp_path, reads, epochs, monkeypatch, caplog
):
    real, judged = stage.judge_of, []

    def judge_of(*given):
        def judge(model, step, aim):
            judged.append(model.state_dict())
            return replace(real(*given)(model, step, aim), inside=step != "final")

        return judge

    monkeypatch.setattr(stage, "judge_of", judge_of)
    monkeypatch.setitem(PATTERNS, "ladder", LADDER)
    pruned(tmp_path, reads, "ladder", limits=(1.0, None))
    found = checkpoint.load(tmp_path / "pruned", load_splits(reads).card).state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in judged[-2].items())
    assert not all(torch.equal(found[name], tensor) for name, tensor in judged[-1].items())
    assert "the model before it is handed on" in caplog.text


@pytest.mark.parametrize(
    ("given", "aims", "whole"),
    [
        ({"pattern": "unstructured", "ladder": {"shares": [0.6, 0.3, 0.1]}}, [0.6, 0.3, 0.1], 0.1),
        ({"pattern": "n_m", "n": 1}, [0.75, 0.5, 0.25], 0.25),
    ],
    ids=["unstructured", "n_m"],
)
@pytest.mark.parametrize("allowed", [1.0, 0.0])
def test_single_weights_go_down_the_ladder_and_stay_zero(
    tmp_path, reads, epochs, monkeypatch, given, aims, whole, allowed
):
    monkeypatch.setitem(PATTERNS, "ladder", {**given, "target": "budget"})
    metrics, _ = pruned(tmp_path, reads, "ladder", limits=(allowed, None))
    diary = rows(tmp_path / "pruned/diary.csv")
    tried = aims if allowed else aims[:1]
    assert [float(row["aim"]) for row in diary] == [*tried, aims[-1] if allowed else 1.0]
    model = checkpoint.load(tmp_path / "pruned", load_splits(reads).card)
    left = [float((weight != 0).float().mean()) for weight in weights(model).values()]
    if not allowed:
        assert left == [1.0] * 3
    elif given["pattern"] == "n_m":
        assert left == [whole] * 3
    else:
        total = 4 * 16 + 16 * 12 + 12 * 3
        kept = sum(int((weight != 0).sum()) for weight in weights(model).values())
        assert kept == pytest.approx(whole * total, abs=1)
    assert metrics["macs_share"] == 1


@pytest.mark.parametrize("target", [{"macs": 0.5}, "budget"])
def test_scope_auto_tries_each_for_a_step_and_goes_on_with_the_best(tmp_path, reads, epochs, monkeypatch, target):
    more = {"ladder": {"shares": [0.5]}} if target == "budget" else {}
    monkeypatch.setitem(PATTERNS, "auto", {"pattern": "channel", "target": target, "scope": "auto", **more})
    metrics, files = pruned(tmp_path / "once", reads, "auto", limits=(1.0, None))
    steps = [row["step"] for row in rows(tmp_path / "once/pruned/diary.csv")]
    after = ["rung 1", "final"] if target == "budget" else ["step 1", "step 2", "step 3"]
    assert steps == [*(f"scope {scope}" for scope in SCOPES), *after]
    assert 0.2 < metrics["macs_share"] <= 0.5
    assert pruned(tmp_path / "again", reads, "auto", limits=(1.0, None)) == (metrics, files)


def test_for_a_target_of_latency_the_table_of_operations_lies_beside(tmp_path, reads, epochs, monkeypatch):
    class Table:
        rows = (Operation("model.body.1", 4, 16, 0.25),)

        @staticmethod
        def latency_ms(sizes):
            return sum(inputs * outputs for inputs, outputs in sizes.values())

    monkeypatch.setattr(stage, "timed_operations", lambda *_: Table())
    monkeypatch.setattr(cost, "MEASURES", {**cost.MEASURES, "latency": cost.MEASURES["macs"]})
    monkeypatch.setitem(PATTERNS, "fast", {"pattern": "channel", "target": {"latency": 0.6}, "round_to": 1})
    metrics, files = pruned(tmp_path, reads, "fast")
    assert 0.4 < metrics["macs_share"] <= 0.6
    assert rows(tmp_path / "beside/latency.csv") == [
        {"layer": "model.body.1", "inputs": "4", "outputs": "16", "latency_ms": "0.25"}
    ]
    assert not any("latency" in name for name in files)


@pytest.mark.parametrize("pattern", ["head", "layer"])
def test_no_table_is_measured_for_heads_and_blocks(tmp_path, encoders, epochs, monkeypatch, pattern):
    monkeypatch.setattr(cost, "MEASURES", {**cost.MEASURES, "latency": cost.MEASURES["macs"]})
    monkeypatch.setitem(PATTERNS, pattern, {"pattern": pattern, "target": {"latency": 0.8}})
    metrics, _ = pruned(tmp_path, encoders, pattern)
    assert metrics["macs_share"] <= 0.8 and not (tmp_path / "beside/latency.csv").exists()


def test_the_ladder_scans_the_whole_model_once_and_then_each_rung(tmp_path, reads, epochs, monkeypatch):
    real, scanned = stage.scan, []

    def scan(model, params, evidence):
        scanned.append(macs(model, (4,)))
        return real(model, params, evidence)

    monkeypatch.setattr(stage, "scan", scan)
    monkeypatch.setitem(PATTERNS, "ladder", LADDER)
    pruned(tmp_path, reads, "ladder", limits=(1.0, None))
    diary = rows(tmp_path / "pruned/diary.csv")
    assert scanned[1:] == [int(row["macs"]) for row in diary[:2]] and scanned[0] > scanned[1]


def test_a_ladder_that_is_stopped_ends_with_the_same_bytes(tmp_path, reads, epochs, monkeypatch):
    monkeypatch.setitem(PATTERNS, "ladder", LADDER)
    limits = (1.0, None)
    unbroken = pruned(tmp_path / "unbroken", reads, "ladder", limits=limits)
    epochs.update(trained=0, stop=4)
    with pytest.raises(InterruptedError):
        pruned(tmp_path / "stopped", reads, "ladder", tmp_path / "scratch", limits)
    epochs.update(trained=0, stop=None)
    assert pruned(tmp_path / "again", reads, "ladder", tmp_path / "scratch", limits) == unbroken
    assert epochs["trained"] == 8 - 3


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoders")
    found = save_splits(folder, pictures(60))
    data = load_splits(found)
    factory = Factory(factory="networks:Encoder", args={"layers": 3})
    for name in ("teacher", "student"):
        model = checkpoint.build(factory, data.card, moments(data.train), 0, "model")
        checkpoint.save(model, data.card, folder / name, parent=None)
    return {**found, "teacher": folder / "teacher", "student": folder / "student"}


@pytest.mark.parametrize(
    ("pattern", "target"),
    [("head", {"macs": 0.8}), ("layer", {"parameters": 0.6}), ("layer", "budget"), ("head", "budget")],
)
def test_an_encoder_loses_heads_or_layers_and_comes_back(tmp_path, encoders, epochs, monkeypatch, pattern, target):
    more = {"ladder": {"shares": [0.75, 0.01]}} if target == "budget" else {}
    monkeypatch.setitem(PATTERNS, pattern, {"pattern": pattern, "target": target, **more})
    limits = (1.0, None)
    metrics, _ = pruned(tmp_path, encoders, pattern, limits=limits)
    assert metrics["parameters_share" if target == {"parameters": 0.6} else "macs_share"] <= 0.8
    card = load_splits(encoders).card
    found = checkpoint.load(tmp_path / "pruned", card)
    assert parameters(found) == metrics["parameters"] and macs(found, card.input_shape) == metrics["macs"]
    if target == "budget":  # the second rung is out of reach
        assert [row["step"] for row in rows(tmp_path / "pruned/diary.csv")] == ["rung 1", "final"]
