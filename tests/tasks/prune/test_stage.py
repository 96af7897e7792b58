"""prune on a toy project's files."""

import numpy as np
import pytest
from pydantic import TypeAdapter
from toy import blobs, save_splits

from tasks import checkpoint
from tasks.data.splits import load_splits, moments
from tasks.files import Files
from tasks.params import Budget, Factory, Prune
from tasks.prune import stage
from tasks.prune.stage import prune
from tasks.training import loop
from tasks.training.curves import read_curves

BUDGET = Budget(max_accuracy_drop=0.3, max_class_recall_drop=0.5)
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


def pruned(folder, reads, pattern, scratch=None, budget=BUDGET):
    given = {
        **PATTERNS[pattern],
        "schedule": {"method": "linear", "steps": 3},
        "recovery": {"losses": [{"method": "kd"}], "step": TRAIN, "final": {**TRAIN, "ema": 0.9}},
    }
    params = TypeAdapter(Prune).validate_python(given)
    writes = {"pruned": folder / "pruned", "diary": folder / "beside"}
    metrics = prune(params, budget, 0, Files(reads, writes, scratch))
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
