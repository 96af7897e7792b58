"""Runs beside each other, and a run's results elsewhere: nothing lost, nothing mixed, nothing done twice."""

import json
import shutil
import subprocess
import sys

import mlflow
import pytest
from flow_runs import FlowRun, figures, small_params, small_project, up_to_date
from projects import ROOT, environment, run

from tasks.stages import STAGES

VERSIONED = [name for name in STAGES if name != "register"]


@pytest.mark.timeout(3600)
def test_two_flow_runs_and_dvc_repro_side_by_side_then_a_fresh_clone(tmp_path):
    project = small_project(tmp_path / "project")
    (project / "params.other.yaml").write_text(small_params().replace("macs: 0.5", "macs: 0.3"))
    repro = subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro", "-q"], cwd=project, env=environment(project), stdout=subprocess.DEVNULL
    )
    same = FlowRun(project, "--scratch", "--json")
    other = FlowRun(project, "--scratch", "--params", "params.other.yaml")
    assert (repro.wait(), same.wait(), other.wait()) == (0, 0, 0), same.said()[-2000:] + other.said()[-2000:]

    scratch = sorted(path for path in (project / ".downsize/runs").iterdir() if path.is_dir())
    by_params = {("macs: 0.3" in (path / "params.yaml").read_text()): path for path in scratch}
    of_repro, of_same, of_other = (figures(path) for path in (project, by_params[False], by_params[True]))
    for flow in (of_same, of_other):
        flow.pop("register.json", None)  # dvc repro does not register
    assert of_repro == of_same
    assert of_other["distill.json"] == of_same["distill.json"]
    assert of_other["prune.json"]["macs"] < of_same["prune.json"]["macs"]

    again = FlowRun(project, "--scratch")  # the clock's figures of evaluate are those of whoever came first
    assert again.wait() == 0 and "Running stage" not in again.said(), again.said()[-2000:]
    client = mlflow.MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    versions = client.search_model_versions("name = 'downsize-smoke'")
    assert len(versions) == 7  # the other recipe has its own pruned and quantized file
    fresh_clone_has_nothing_to_do(project, tmp_path)


def fresh_clone_has_nothing_to_do(project, tmp_path):
    remote, clone = tmp_path / "remote", tmp_path / "clone"
    run(project, sys.executable, "-m", "dvc", "remote", "add", "-d", "store", str(remote))
    run(project, sys.executable, "-m", "dvc", "push", "-q", "--run-cache")
    run(project, "git", "add", "-A")
    run(project, "git", "commit", "-qm", "a finished run")
    shutil.copytree(project / ".git", clone / ".git")
    run(clone, "git", "checkout", "-qf", "main")
    run(clone, sys.executable, "-m", "dvc", "pull", "-q")
    said = run(clone, sys.executable, "-m", "dvc", "repro").stdout
    assert "Running stage" not in said
    fresh = FlowRun(clone, "--json")
    assert fresh.wait() == 0, fresh.said()[-2000:]
    assert up_to_date(fresh.said()) == VERSIONED
    assert figures(clone).items() >= figures(project).items()
    summary = json.loads((clone / "reports/summary.json").read_text())
    assert summary == json.loads((project / "reports/summary.json").read_text())
    assert (ROOT / "dvc.yaml").read_text() == (clone / "dvc.yaml").read_text()
