from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flows import reproduce as module
from flows.reproduce import _changed, _differences, reproduce
from tasks.adapters.registry import Registry, open_registry
from tasks.params import Params, Tracking, load_params
from tasks.register import register
from tests.mlflow_project import make_data, make_project, make_variant, register_files

LOCK = """\
schema: '2.0'
stages:
  split:
    cmd: downsize stage split
    deps: [{path: artifacts/data, md5: d1}, {path: tasks/split.py, md5: s1}]
    params: {params.yaml: {seed: 0}}
    outs: [{path: artifacts/split.npz, md5: o1}]
  teacher:
    cmd: downsize stage teacher
    deps: [{path: artifacts/split.npz, md5: o1}, {path: tasks/training, md5: t1}]
    params: {params.yaml: {seed: 0}}
    outs: [{path: artifacts/teacher, md5: w1}]
"""


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in git whose version 5, quantized, was made from its commit."""
    root = tmp_path_factory.mktemp("reproduce")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        params = make_project(root)
        (root / "dvc.lock").write_text(LOCK)
        (root / "dvc.yaml").write_text("stages: {}\n")
        (root / ".gitignore").write_text("/artifacts\n/reports\n/metrics\n/mlflow.db*\n/mlruns\n/.downsize\n/data/*\n")
        (root / "data").mkdir()
        (root / "data/own.csv").write_text("a,b\n")
        git(root, "init", "-q")
        subprocess.run([sys.executable, "-m", "dvc", "init", "-q"], cwd=root, check=True)
        git(root, "add", "-A")
        git(root, "-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "-qm", "start")
        register(params.register_, params.tracking, register_files(root))
    return root


@pytest.fixture
def project(registered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return shutil.copytree(registered, tmp_path / "project", symlinks=True)


def git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *arguments], check=True, capture_output=True, text=True)
    return done.stdout


def registry(root: Path) -> Registry:
    with open_registry(Tracking(), root, "toy") as opened:
        return opened


def params_of(root: Path) -> Params:
    return load_params(root / "params.yaml")


def rebuilding(monkeypatch: pytest.MonkeyPatch, scale: float, lock: str = LOCK) -> list[Path]:
    """Replace DVC's work by a quantized model of that scale, the project's data, and that dvc.lock."""
    seen: list[Path] = []

    def child(command: list[str], name: str, folder: Path, *_: Any) -> None:
        seen.append(folder)
        assert command[-2:] == ["repro", "quantize"]
        assert load_params(folder / "params.yaml").tracking.enabled is False
        assert (folder / "data/own.csv").read_text() == "a,b\n"
        make_data(folder)
        make_variant(folder / "artifacts/quantized", scale)
        (folder / "dvc.lock").write_text(lock)

    monkeypatch.setattr(module, "run_child", child)
    return seen


def test_the_same_bytes_are_the_same_and_nothing_is_left_behind(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, folder = rebuilding(monkeypatch, scale=5.0), project / ".downsize/reproduce-5"
    found = reproduce(project, params_of(project), "candidate")
    assert (found.version, found.variant, found.verdict, found.notes) == (5, "quantized", "same bytes", [])
    assert str(found).startswith("toy version 5, quantized: the same bytes\n")
    assert seen == [folder] and not folder.exists()
    assert "reproduce" not in git(project, "worktree", "list")


def test_other_bytes_are_judged_by_their_answers_and_the_first_difference_is_named(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rebuilding(monkeypatch, scale=6.0, lock=LOCK.replace("md5: w1", "md5: w2"))
    found = reproduce(project, params_of(project), "5", keep=True)
    assert found.verdict == "inconclusive"  # on four samples
    assert found.figures is not None and found.figures["accuracy"] == found.figures["reference_accuracy"] == 0.5
    assert found.notes == [
        "teacher: made artifacts/teacher anew with other bytes from the same code, params and inputs"
    ]
    assert "accuracy 0.5000, of the registered file 0.5000" in str(found)
    assert (project / ".downsize/reproduce-5/artifacts/quantized/model.onnx").is_file()
    assert reproduce(project, params_of(project), "5").verdict == "inconclusive"  # one that was left is no obstacle


def test_what_cannot_be_promised_is_said(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rebuilding(monkeypatch, scale=5.0)
    registry(project).tag(registry(project).numbered(5), {"git_dirty": "true", "packages": "python==2.7 torch==0.1"})
    notes = reproduce(project, params_of(project), "5").notes
    assert notes[0] == "the code had changes then that were not committed: the same bytes cannot be promised"
    assert notes[1].startswith("other packages: python==3.") and "torch==" in notes[1] and "(then 0.1)" in notes[1]


def test_what_cannot_be_rebuilt_is_one_clear_line(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry(project).tag(registry(project).numbered(5), {"git_commit": "0" * 40})
    with pytest.raises(ValueError, match=r"^version 5 needs commit 0{40}, which is not here; fetch it first$"):
        reproduce(project, params_of(project), "5")
    registry(project).client.delete_model_version_tag("toy", "5", "git_commit")
    with pytest.raises(ValueError, match=r"^version 5 was made outside of git, so its code is not known$"):
        reproduce(project, params_of(project), "5")
    monkeypatch.setattr(Registry, "run_files", lambda *_: set())
    with pytest.raises(
        ValueError, match=r"^toy: version 5 cannot be rebuilt: its MLflow run \w+ has no params.yaml any"
    ):
        reproduce(project, params_of(project), "5")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("s1", "s2", ["split: not as it was: tasks/split.py"]),
        ("{seed: 0}", "{seed: 1}", ["split: not as it was: params", "teacher: not as it was: params"]),
        ("d1", "d2", []),  # its own maker says so
        ("w1", "w2", ["teacher: made artifacts/teacher anew with other bytes from the same code, params and inputs"]),
    ],
)
def test_where_two_lock_files_begin_to_differ(tmp_path: Path, old: str, new: str, says: list[str]) -> None:
    (tmp_path / "kept").write_text(LOCK)
    (tmp_path / "now").write_text(LOCK.replace(old, new))
    assert _differences(tmp_path / "kept", tmp_path / "now") == says


def test_packages_that_changed() -> None:
    assert list(_changed(["a==1", "b==2"], ["a==1", "b==3", "c==1"])) == [("2", "b==3")]
