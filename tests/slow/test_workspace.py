"""Workspaces: new ones look like the project, are one run's alone, and hold what finished runs have left."""

import json
import os
import subprocess
import sys

import pytest
from projects import ROOT, downsize, environment, make_project, run

from flows.child import Unreachable, WorkspaceBusy
from flows.workspace import KEPT, prepared, workspace

SMOKE = (ROOT / "params.smoke.yaml").read_text()
EARLY = ("ingest", "validate", "split")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project whose first stages have run."""
    folder = make_project(tmp_path_factory.mktemp("workspace") / "project")
    run(folder, sys.executable, "-m", "dvc", "repro", *EARLY)
    return folder


@pytest.fixture
def inside(project, monkeypatch):
    for name, value in environment(project).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{project / 'mlflow.db'}")
    monkeypatch.chdir(project)
    monkeypatch.setattr("flows.workspace.WAITS_S", ())
    return project


def stale(folder):
    return set(json.loads(run(folder, sys.executable, "-m", "dvc", "status", "--json").stdout))


def test_a_scratch_workspace_has_the_project_s_changes_and_finished_stages(inside):
    (inside / "notes.txt").write_text("new, not committed")
    with prepared(inside / "params.yaml", "scratch") as folder:
        assert folder.parent == inside / ".downsize/runs"
        assert (folder / "notes.txt").exists()
        assert stale(folder).isdisjoint(EARLY)
    with prepared(inside / "params.yaml", "scratch") as other:
        assert other != folder
    (inside / "notes.txt").unlink()


def test_another_recipe_in_scratch_leaves_the_project_alone(inside):
    before = {path: path.stat().st_mtime_ns for path in inside.glob("[dm]*/**/*")}
    (inside / "params.other.yaml").write_text(SMOKE.replace("test: 0.2", "test: 0.3"))
    with prepared(inside / "params.other.yaml", "scratch") as folder:
        assert "test: 0.3" in (folder / "params.yaml").read_text()
        run(folder, sys.executable, "-m", "dvc", "repro", "split")
    assert {path: path.stat().st_mtime_ns for path in inside.glob("[dm]*/**/*")} == before
    assert stale(inside).isdisjoint(EARLY)


def test_what_one_workspace_has_made_another_restores_without_running(inside):
    (inside / "params.third.yaml").write_text(SMOKE.replace("test: 0.2", "test: 0.3"))
    with prepared(inside / "params.third.yaml", "scratch") as folder:
        said = run(folder, sys.executable, "-m", "dvc", "repro", "split").stdout
    assert "Running stage" not in said and "Stage 'split' is cached" in said


def test_old_scratch_workspaces_go_but_those_in_use_stay(inside):
    with prepared(inside / "params.yaml", "scratch") as used:
        for _ in range(KEPT + 1):
            with prepared(inside / "params.yaml", "scratch"):
                pass
        assert used.exists()
    assert len([path for path in (inside / ".downsize/runs").iterdir() if path.is_dir()]) <= KEPT + 2


def test_a_recipe_s_workspace_is_one_run_s_at_a_time_and_free_after_a_kill(inside):
    (inside / "params.mine.yaml").write_text(SMOKE)
    code = (
        "import pathlib, sys, time; from flows.workspace import prepared\n"
        "with prepared(pathlib.Path('params.mine.yaml')): print('held', flush=True); time.sleep(600)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], env=os.environ, stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    busy = pytest.raises(WorkspaceBusy, match=r"another run is in .*/mine; wait for it to end, or use --scratch")
    with busy, workspace(inside, inside / "params.mine.yaml"):
        pass
    holder.kill()
    holder.communicate()
    with workspace(inside, inside / "params.mine.yaml") as folder:
        assert folder.name == "mine"


@pytest.mark.parametrize("cut", [0.0, 0.3, 0.55, 0.8])
def test_a_dvc_lock_that_a_kill_cut_off_costs_no_stage(inside, cut):
    path = inside / "dvc.lock"
    whole = path.read_text()
    path.write_text(whole[: int(len(whole) * cut)])
    with prepared(inside / "params.yaml"):
        pass
    said = run(inside, sys.executable, "-m", "dvc", "repro", *EARLY).stdout
    assert "Running stage" not in said
    assert path.read_text() == whole


def test_a_scheduled_workspace_is_the_upstream_s_newest_commit_and_pushes_what_it_made(inside, tmp_path):
    origin, remote = tmp_path / "origin.git", tmp_path / "remote"
    (inside / "params.mine.yaml").unlink(missing_ok=True)
    run(inside, "git", "init", "-q", "--bare", "-b", "main", str(origin))
    run(inside, "git", "remote", "add", "origin", str(origin))
    run(inside, "git", "push", "-qu", "origin", "main")
    run(inside, sys.executable, "-m", "dvc", "remote", "add", "--local", "-d", "store", str(remote))
    clone = tmp_path / "clone"
    run(inside, "git", "clone", "-q", str(origin), str(clone))
    (clone / "later.txt").write_text("from a colleague")
    for command in (["add", "-A"], ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "x"], ["push", "-q"]):
        run(clone, "git", *command)
    (inside / "local.txt").write_text("not pushed")
    with prepared(inside / "params.yaml", "scheduled") as folder:
        assert (folder / "later.txt").exists() and not (folder / "local.txt").exists()
        run(folder, sys.executable, "-m", "dvc", "repro", "split")
    assert any(remote.rglob("*"))
    remote.rename(tmp_path / "moved")
    origin.rename(tmp_path / "gone.git")
    with pytest.raises(Unreachable, match=r"^git fetch: "), prepared(inside / "params.yaml", "scheduled"):
        pass


def test_a_resume_command_is_the_one_that_a_person_typed(project):
    bad = SMOKE.replace("min_per_class: 20", "min_per_class: 180")
    (project / "params.bad.yaml").write_text(bad)
    done = downsize(project, "run", "--params", "params.bad.yaml", "--scratch", check=False)
    last = done.stderr.splitlines()[-1]
    assert last.startswith("downsize: validate: ") and "samples" in last
    assert last.endswith("; `downsize run --params params.bad.yaml --scratch` goes on from there")
