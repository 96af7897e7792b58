import logging
import os
from dataclasses import fields

import numpy as np
import pytest
from toy import blobs, save_splits

from tasks.coreset import collect as module
from tasks.coreset.collect import collect
from tasks.coreset.kept import FILES_KEPT
from tasks.data.splits import load_splits
from tasks.params import Proxy
from tasks.training.scratch import scratch_of

PROXY = Proxy(epochs=2, width=8)


@pytest.fixture
def ask(tmp_path, monkeypatch):
    """Collect evidence; `ask.trained` counts the proxies that were trained for it."""
    trained = []
    train = module.proxy_evidence
    monkeypatch.setattr(module, "proxy_evidence", lambda *a, **k: trained.append(a) or train(*a, **k))
    data = load_splits(save_splits(tmp_path, blobs(60)))

    def ask(features="proxy", proxy=PROXY, seed=0, dynamics=False, identity="data"):
        scratch = scratch_of(tmp_path / "scratch", "coreset", identity)
        return collect(data, features, proxy, seed, dynamics=dynamics, scratch=scratch)

    ask.trained = trained
    ask.folder = tmp_path / "scratch" / "evidence"
    return ask


def same(one, two):
    return all(np.array_equal(getattr(one, field.name), getattr(two, field.name)) for field in fields(one))


@pytest.mark.parametrize("dynamics", [False, True])
def test_the_proxy_is_trained_once_and_its_evidence_comes_back_to_the_bit(ask, dynamics, caplog):
    with caplog.at_level(logging.INFO):
        first, again = ask(dynamics=dynamics), ask(dynamics=dynamics)
    assert len(ask.trained) == 1 and same(first, again)
    assert "proxy trained for 2 epochs" in caplog.text and "proxy kept by an earlier run" in caplog.text


def test_evidence_of_the_dynamics_serves_those_who_need_only_features_and_not_the_other_way(ask):
    full, features = ask(dynamics=True), ask()
    assert len(ask.trained) == 1 and np.array_equal(full.features, features.features) and features.margins is None
    ask(seed=1)
    ask(seed=1, dynamics=True)
    assert len(ask.trained) == 3


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"proxy": Proxy(epochs=3, width=8)}, {"identity": "other data"}],
    ids=["seed", "proxy", "data"],
)
def test_whatever_decides_the_evidence_trains_the_proxy_anew(ask, change):
    ask()
    ask(**change)
    assert len(ask.trained) == 2


def test_other_code_trains_the_proxy_anew(ask, monkeypatch):
    ask()
    monkeypatch.setattr("tasks.training.scratch._code", lambda: b"edited")
    ask()
    assert len(ask.trained) == 2


def test_raw_features_come_with_the_kept_dynamics(ask):
    ask(dynamics=True)
    raw = ask(features="raw", dynamics=True)
    assert len(ask.trained) == 1 and raw.features.shape == (36, 4) and raw.margins is not None


def test_a_file_that_is_not_whole_is_made_again(ask, caplog):
    first = ask()
    (path,) = ask.folder.iterdir()
    path.write_bytes(path.read_bytes()[:200])
    assert same(ask(), first) and len(ask.trained) == 2 and "is not whole" in caplog.text


def test_only_the_latest_are_kept(ask):
    for seed in range(FILES_KEPT + 1):
        ask(seed=seed)
        for path in ask.folder.iterdir():  # all a second older, however coarse the clock
            os.utime(path, (path.stat().st_atime - 1, path.stat().st_mtime - 1))
    assert len(list(ask.folder.iterdir())) == FILES_KEPT
    ask(seed=0)
    assert len(ask.trained) == FILES_KEPT + 2
