"""A true search on the bundled digits: killed, taken up, reproduced, and made again for nothing."""

import json
import os
import signal
import subprocess
import sys
import time

import mlflow
import pytest
from projects import downsize, environment, make_project
from ruamel.yaml import YAML

from flows import warm


def loose_project(folder):
    make_project(folder)
    path = folder / "params.yaml"
    path.write_text(path.read_text().replace("max_accuracy_drop: 0.05", "max_accuracy_drop: 0.3"))
    return folder


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return loose_project(tmp_path_factory.mktemp("search") / "project")


@pytest.mark.timeout(900)
def test_a_search_that_is_killed_goes_on_and_leaves_no_process(project):
    command = [sys.executable, "-m", "flows.cli", "search", "--workers", "2", "--name", "first"]
    with open(project / "killed.log", "w") as log:
        search = subprocess.Popen(command, cwd=project, env=environment(project), stdout=log, stderr=log)
    judged = project / ".downsize/searches/judged"
    until = time.monotonic() + 600
    while not list(judged.glob("*.json")):
        assert search.poll() is None and time.monotonic() < until, (project / "killed.log").read_text()
        time.sleep(0.5)
    known = {path.name: path.stat().st_mtime_ns for path in judged.glob("*.json")}
    search.send_signal(signal.SIGKILL)
    search.wait()
    until = time.monotonic() + 30
    while alive(project):
        assert time.monotonic() < until, alive(project)
        time.sleep(0.5)
    outcome = json.loads(downsize(project, "search", "--workers", "2", "--name", "first", "--json").stdout)
    assert len(outcome["trials"]) + len(outcome["failures"]) == 4 and outcome["trials"][0]["trial"] == 0
    assert outcome["chosen"] in outcome["front"]
    assert all((judged / name).stat().st_mtime_ns == written for name, written in known.items())
    assert outcome["confirmation"]["looks"] == 1
    (project / "outcome.json").write_text(json.dumps(outcome))


def alive(project):
    """The processes that work below the project."""
    found = []
    for entry in os.listdir("/proc"):
        try:
            if entry.isdigit() and os.readlink(f"/proc/{entry}/cwd").startswith(str(project)):
                found.append(entry)
        except OSError:
            continue
    return found


@pytest.mark.timeout(600)
def test_the_chosen_recipe_is_a_params_file_that_a_run_finds_finished(project):
    outcome = json.loads((project / "outcome.json").read_text())
    done = downsize(project, "run", "--params", "params.best.yaml", "--json")
    assert "started" not in done.stderr.replace("register: started", "")
    row = outcome["confirmation"]["row"]
    assert row in json.loads(done.stdout)["variants"]


@pytest.mark.timeout(600)
def test_a_second_search_judges_nothing_again(project):
    judged = project / ".downsize/searches/judged"
    known = {path: path.stat().st_mtime_ns for path in judged.glob("*.json")}
    first = json.loads((project / "outcome.json").read_text())
    again = json.loads(downsize(project, "search", "--workers", "2", "--name", "second", "--json").stdout)
    assert {path: path.stat().st_mtime_ns for path in judged.glob("*.json")}.items() >= known.items()
    shared = {json.dumps(trial["values"]): trial["size_bytes"] for trial in first["trials"]}
    found = [trial for trial in again["trials"] if json.dumps(trial["values"]) in shared]
    assert found and all(trial["size_bytes"] == shared[json.dumps(trial["values"])] for trial in found)


@pytest.mark.timeout(900)
def test_trials_that_import_their_own_packages_make_the_same_bytes(project, tmp_path, monkeypatch):
    cold = loose_project(tmp_path / "cold")
    monkeypatch.setenv(warm.ADDRESS, "nobody")
    downsize(cold, "search", "--workers", "2", "--name", "cold")
    forked, imported = made(project), made(cold)
    assert len(imported) >= 8 and imported == {key: forked[key] for key in imported}


def made(project):
    """By what they were made from, the hashes of all that the stages of trials have made, from DVC's run cache."""
    found = {}
    for path in (project / ".dvc/cache/runs").glob("*/*/*"):
        entry = YAML(typ="safe", pure=True).load(path)
        if entry["cmd"].split()[-1] in ("distill", "prune", "quantize"):
            found.setdefault(path.parent.name, []).append([out["md5"] for out in entry["outs"]])
    return found


def test_mlflow_has_a_parent_per_search_with_a_child_per_trial(project):
    client = mlflow.MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    (experiment,) = [found for found in client.search_experiments() if found.name == "downsize"]
    parents = client.search_runs([experiment.experiment_id], "tags.stage = 'search'")
    assert sorted(run.data.tags["search"] for run in parents) == ["first", "second"]
    for parent in parents:
        wanted = f"tags.mlflow.parentRunId = '{parent.info.run_id}'"
        assert len(client.search_runs([experiment.experiment_id], wanted)) == parent.data.metrics["trials"]
        assert {file.path for file in client.list_artifacts(parent.info.run_id)} == {
            "front.csv", "front.png", "params.best.yaml"
        }  # fmt: skip
