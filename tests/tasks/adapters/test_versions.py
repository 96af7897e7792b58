from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from tasks.adapters.versions import data_md5s, lock_hash, params_hash, pinned, provenance, recipe, track
from tasks.params import load_params
from tests.mlflow_project import PARAMS, make_data


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git repository with DVC in it, and params.yaml."""
    monkeypatch.delenv("DOWNSIZE_FLOW_RUN", raising=False)
    for key in ("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"):
        monkeypatch.setenv(key, "tester")
    git(tmp_path, "init", "--quiet")
    from dvc.repo import Repo

    Repo.init(str(tmp_path)).close()
    (tmp_path / "data").mkdir()
    (tmp_path / "params.yaml").write_text(PARAMS)
    return tmp_path


def git(root: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(root), *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()


def test_track_puts_files_and_folders_under_dvc_in_silence(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from dvc.repo import Repo

    table, images = project / "data" / "raw" / "table.csv", project / "data" / "images"
    table.parent.mkdir()
    images.mkdir()
    table.write_text("a,b\n1,2\n")
    (images / "one.png").write_bytes(b"1")
    capfd.readouterr()
    md5s = track(project, [table, images])
    assert capfd.readouterr() == ("", "")
    assert md5s["data/raw/table.csv"] == hashlib.md5(b"a,b\n1,2\n").hexdigest()
    assert md5s["data/images"].endswith(".dir")
    with Repo(str(project)) as repo:
        dvc = {Path(out.fs_path).relative_to(project).as_posix(): out.hash_info.value for out in repo.index.outs}
    assert md5s == dvc
    assert data_md5s(project) == md5s
    assert "/images" in (project / "data" / ".gitignore").read_text()


def test_track_again_changes_nothing_until_the_data_changes(project: Path) -> None:
    table = project / "data" / "table.csv"
    table.write_text("first")
    before = track(project, [table])
    pointer = (project / "data" / "table.csv.dvc").read_bytes()
    assert track(project, [table, table]) == before
    assert (project / "data" / "table.csv.dvc").read_bytes() == pointer
    table.unlink()
    table.write_text("second")
    assert track(project, [table]) == {"data/table.csv": hashlib.md5(b"second").hexdigest()}


def test_track_nothing(project: Path) -> None:
    assert track(project, []) == {}


def test_track_says_what_it_cannot_take(project: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.raises(FileNotFoundError, match=r"data/no\.csv: no such"):
        track(project, [project / "data" / "no.csv"])
    for outside in (project / "params.yaml", project / "data", project / "data" / ".." / "params.yaml"):
        with pytest.raises(ValueError, match="must lie inside"):
            track(project, [outside])
    bare = tmp_path_factory.mktemp("bare")
    (bare / "data").mkdir()
    (bare / "data" / "x.csv").write_text("1")
    with pytest.raises(ValueError, match=r"^DVC cannot track the data: ") as caught:
        track(bare, [bare / "data" / "x.csv"])
    assert "\n" not in str(caught.value)


def test_lock_hash(tmp_path: Path) -> None:
    assert lock_hash(tmp_path) is None
    (tmp_path / "dvc.lock").write_bytes(b"schema: '2.0'\n")
    assert lock_hash(tmp_path) == hashlib.md5(b"schema: '2.0'\n").hexdigest()


def test_no_data_no_md5s(tmp_path: Path) -> None:
    assert data_md5s(tmp_path) == {}


def test_provenance_leaves_out_what_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DOWNSIZE_FLOW_RUN", raising=False)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    (tmp_path / "params.yaml").write_text(PARAMS)
    tags = provenance(load_params(tmp_path / "params.yaml"), tmp_path)
    assert sorted(tags) == ["packages", "params_sha256", "recipe"]
    assert tags["packages"].startswith("python==3.")


def test_provenance_names_commit_lock_data_and_flow_run(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_data(project)
    (project / ".gitignore").write_text("/artifacts\n")
    git(project, "add", ".")
    git(project, "commit", "--quiet", "-m", "first")
    monkeypatch.setenv("DOWNSIZE_FLOW_RUN", "abc")
    params = load_params(project / "params.yaml")
    # what a run writes itself
    (project / "dvc.lock").write_text("schema: '2.0'\n")
    (project / "metrics").mkdir()
    (project / "metrics" / "ingest.json").write_text("{}")
    tags = provenance(params, project)
    assert tags["git_commit"] == git(project, "rev-parse", "HEAD")
    assert tags["git_dirty"] == "false"
    assert tags["dvc_lock"] == lock_hash(project)
    assert len(tags["data_sha256"]) == 64
    assert tags["flow_run"] == "abc"
    (project / "my_nets.py").write_text("# new\n")
    assert provenance(params, project)["git_dirty"] == "true"


def test_comments_and_tracking_are_no_part_of_the_params_hash(tmp_path: Path) -> None:
    def hashed(text: str) -> str:
        (tmp_path / "params.yaml").write_text(text)
        return params_hash(load_params(tmp_path / "params.yaml"))

    first = hashed(PARAMS)
    assert hashed(PARAMS + "# a comment\ntracking: {enabled: false}\nevaluate: {latency_rounds: 20}\n") == first
    assert hashed(PARAMS + "evaluate: {latency_rounds: 21}\n") != first
    assert hashed(PARAMS.replace("model_name: toy", "model_name: other")) == first


def test_the_recipe_changes_with_params_and_data_and_not_with_comments(tmp_path: Path) -> None:
    def made_from(text: str) -> str:
        (tmp_path / "params.yaml").write_text(text)
        return recipe(load_params(tmp_path / "params.yaml"), tmp_path)

    make_data(tmp_path)
    first = made_from(PARAMS)
    assert made_from(f"# a comment\n{PARAMS}") == first
    assert made_from(PARAMS.replace("seed: 7", "seed: 8")) != first
    shutil.rmtree(tmp_path / "artifacts" / "data")
    make_data(tmp_path, seed=1)
    assert made_from(PARAMS) != first


def test_the_recipe_knows_the_code_of_the_users_packages(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(PARAMS)
    params = load_params(tmp_path / "params.yaml")
    (tmp_path / "my_nets").mkdir()
    (tmp_path / "my_nets" / "blocks.py").write_text("one")
    (tmp_path / "unrelated.py").write_text("one")
    first = recipe(params, tmp_path)
    (tmp_path / "unrelated.py").write_text("two")
    assert recipe(params, tmp_path) == first
    (tmp_path / "my_nets" / "blocks.py").write_text("two")
    assert recipe(params, tmp_path) != first


def test_pinned_leaves_out_what_is_not_installed() -> None:
    (only,) = pinned("numpy", "no-such-package-anywhere")
    assert only.startswith("numpy==")
