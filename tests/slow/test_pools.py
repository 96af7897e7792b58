"""Work pools for real: a schedule handed over, and the deployment of infra/prefect.yaml, each run by a worker."""

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.request

import mlflow
import pytest
from flow_runs import left_over, small_project, wait_until
from projects import ROOT, run
from servers import prefect_server, server_runs

PREFECT = (sys.executable, "-m", "prefect", "--no-prompt")


@pytest.fixture
def project(tmp_path):
    return small_project(tmp_path / "project")


@pytest.fixture
def server(tmp_path, project):
    """What a client of the test's own Prefect server, and a worker's MLflow, needs in its environment."""
    with prefect_server(tmp_path, PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS="1") as settings:
        tracking = {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'mlflow.db'}", "PYTHONPATH": str(project)}
        yield {**settings, **tracking, "DOWNSIZE_REPOSITORY": str(tmp_path / "origin.git")}


@pytest.fixture
def worker(project, server, tmp_path):
    """Starts a worker of a pool, far from the project; it ends with the test, and so does what it runs."""
    place, started = tmp_path / "worker", []
    place.mkdir()

    def start(pool):
        with (tmp_path / "worker.log").open("w") as log:
            command = [*PREFECT, "worker", "start", "--pool", pool]
            options = {"stdout": log, "stderr": log, "start_new_session": True}
            started.append(subprocess.Popen(command, cwd=place, env=server, **options))

    yield start
    for process in started:
        os.killpg(process.pid, signal.SIGTERM)  # the first time it waits for its runs
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:  # at times it waits for ever
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    wait_until(lambda: not left_over(project) and not left_over(place), 120)


def call(project, server, *command, check=True):
    return run(
        project, "env", *(f"{name}={value}" for name, value in server.items() if name in NEEDED), *command, check=check
    )


NEEDED = ("PREFECT_API_URL", "PREFECT_HOME", "DO_NOT_TRACK", "MLFLOW_TRACKING_URI", "DOWNSIZE_REPOSITORY")


@pytest.mark.timeout(3600)
def test_a_pool_s_worker_runs_by_the_schedule_and_the_next_run_waits(project, server, worker):
    params = project / "params.yaml"
    timetable = "{interval_s: 5, overlap: queue, pull: false, push: false}"
    params.write_text(params.read_text().replace("schedule: {}", f"schedule: {timetable}"))
    serve = (sys.executable, "-m", "flows.cli", "serve", "--pool", "nightly")
    unknown = call(project, server, *serve, check=False)
    assert unknown.returncode == 1 and len(unknown.stderr.splitlines()) == 1
    assert "--pool 'nightly': no such work pool at http://127.0.0.1" in unknown.stderr

    call(project, server, *PREFECT, "work-pool", "create", "nightly", "--type", "process")
    call(project, server, *serve)
    worker("nightly")
    url = server["PREFECT_API_URL"]
    wait_until(lambda: any(one.state.name == "AwaitingConcurrencySlot" for one in server_runs(url)), 600)
    assert len([one for one in server_runs(url) if one.state.is_running()]) <= 1
    wait_until(lambda: len(ended_runs(url)) >= 2, 1800)
    first, second = sorted(ended_runs(url), key=lambda one: one.start_time)[:2]
    assert first.state.is_completed() and second.state.is_completed(), (first.state, second.state)
    assert second.start_time >= first.end_time
    assert not (project / "artifacts").exists() and list((project / ".downsize/runs").glob("*/reports/report.html"))


def ended_runs(url):
    return [one for one in server_runs(url) if one.state.is_final()]


@pytest.mark.timeout(3600)
def test_the_shipped_deployment_clones_runs_on_a_post_and_pushes(project, server, worker, tmp_path):
    shutil.copytree(ROOT / "infra", project / "infra", ignore=shutil.ignore_patterns("__pycache__"))
    run(project, sys.executable, "-m", "dvc", "remote", "add", "-d", "store", str(tmp_path / "remote"))
    run(project, "git", "add", "-A")
    run(project, "git", "commit", "-qm", "infra and a remote")
    run(tmp_path, "git", "clone", "-q", "--bare", str(project), "origin.git")
    call(project, server, *PREFECT, "work-pool", "create", "downsize", "--type", "process")
    call(project, server, *PREFECT, "deploy", "--prefect-file", "infra/prefect.yaml", "--all")
    worker("downsize")
    url = server["PREFECT_API_URL"]
    with urllib.request.urlopen(f"{url}/deployments/name/downsize/nightly") as answer:
        deployment = json.load(answer)
    assert deployment["schedules"][0]["schedule"]["cron"] == "0 3 * * *"
    assert deployment["concurrency_options"]["collision_strategy"] == "ENQUEUE"
    post = urllib.request.Request(
        f"{url}/deployments/{deployment['id']}/create_flow_run", b"{}", {"Content-Type": "application/json"}
    )
    urllib.request.urlopen(post).close()
    wait_until(lambda: ended_runs(url), 1800)
    (done,) = ended_runs(url)
    assert done.state.is_completed(), done.state.message
    client = mlflow.MlflowClient(server["MLFLOW_TRACKING_URI"])
    assert client.search_model_versions("name = 'downsize-smoke'")
    assert any((tmp_path / "remote").iterdir()) and not (project / ".downsize").exists()
