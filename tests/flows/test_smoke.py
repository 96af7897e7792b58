"""The whole chain on bundled data, through the flow, through DVC and by plain calls."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

import mlflow
import numpy as np
import onnxruntime
import pandas as pd
import pytest
from projects import downsize, environment, free_port, make_project, run
from scipy.special import softmax

TIMED = ("latency", "throughput")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = make_project(tmp_path_factory.mktemp("smoke") / "project")
    done = downsize(folder, "run", "--json")
    (folder / "first.json").write_text(done.stdout)
    return folder


def figures(folder):
    """All metrics that do not depend on the clock."""
    return {
        path.name: {key: v for key, v in json.loads(path.read_text()).items() if not any(word in key for word in TIMED)}
        for path in sorted((folder / "metrics").glob("*.json"))
    }


def test_the_flow_compresses_at_least_four_times(project):
    summary = json.loads((project / "first.json").read_text())
    rows = {row["name"]: row for row in summary["variants"]}
    assert rows["teacher"]["size_bytes"] >= 4 * rows["quantized"]["size_bytes"]
    assert all(0 < row["packed_bytes"] < row["size_bytes"] for row in rows.values())
    assert rows["quantized"]["accuracy"] > 0.9
    assert (project / "reports/report.html").stat().st_size > 10_000


def test_a_second_run_does_nothing_again_and_registers_nothing_twice(project):
    before = {path: path.stat().st_mtime_ns for path in (project / "artifacts").rglob("*") if path.is_file()}
    log = downsize(project, "run").stderr
    assert log.count("up to date") == 9
    assert {path: path.stat().st_mtime_ns for path in before} == before
    client = mlflow.MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    assert len(client.search_model_versions("name = 'downsize-smoke'")) == 5


def test_dvc_repro_after_the_flow_has_nothing_to_do(project):
    done = run(project, sys.executable, "-m", "dvc", "repro")
    assert "Running stage" not in done.stdout + done.stderr


def test_changed_prune_params_make_prune_and_what_follows_stale_and_nothing_before(project):
    path = project / "params.yaml"
    text = path.read_text()
    path.write_text(text.replace("macs: 0.5", "macs: 0.6"))
    stale = json.loads(run(project, sys.executable, "-m", "dvc", "status", "--json").stdout)
    path.write_text(text)
    assert set(stale) == {"prune"}  # DVC lists the first; the others follow once its output has changed


def test_plain_calls_and_dvc_repro_give_the_flow_s_figures(project, tmp_path):
    by_call, by_dvc = make_project(tmp_path / "call"), make_project(tmp_path / "dvc")
    calls = "from tasks.stages import STAGES, run_stage; [run_stage(name) for name in STAGES if name != 'register']"
    run(by_call, sys.executable, "-c", calls)
    run(by_dvc, sys.executable, "-m", "dvc", "repro")
    assert figures(by_call) == figures(by_dvc) == figures(project)


def test_mlflow_has_one_parent_with_a_child_per_stage(project):
    client = mlflow.MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    (experiment,) = [found for found in client.search_experiments() if found.name == "downsize"]
    runs = client.search_runs([experiment.experiment_id])
    parents = [found for found in runs if "mlflow.parentRunId" not in found.data.tags]
    stages = [found.data.tags["stage"] for found in runs if "mlflow.parentRunId" in found.data.tags]
    assert len(parents) == 1
    assert sorted(stages) == sorted(set(stages)) and {"ingest", "teacher", "evaluate", "register"} <= set(stages)


def test_the_served_champion_answers_as_the_file_does(project):
    moved = json.loads(downsize(project, "promote", "--json").stdout)
    x = np.load(project / "artifacts/data/x.npy")[:3].astype(np.float32)
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", "models:/downsize-smoke@champion"]
    settings = {**environment(project), "MLFLOW_TRACKING_URI": f"sqlite:///{project / 'mlflow.db'}"}
    with open(project / "serve.log", "w") as log:
        server = subprocess.Popen(
            [*command, "--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)],
            cwd=project,
            env=settings,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        answers = asked(f"http://127.0.0.1:{port}/invocations", {"inputs": x.tolist()}, server)
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)
    client = mlflow.MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    champion = client.get_model_version_by_alias("downsize-smoke", "champion")
    assert str(champion.version) == str(moved["version"])
    file = project / f"artifacts/{champion.tags['variant']}/model.onnx"
    (expected,) = onnxruntime.InferenceSession(str(file)).run(None, {"x": x})
    assert [row["label"] for row in answers["predictions"]] == [str(digit) for digit in expected.argmax(1)]
    probabilities = [[row[f"probability {digit}"] for digit in range(10)] for row in answers["predictions"]]
    np.testing.assert_allclose(probabilities, softmax(expected, axis=1), rtol=1e-5)


def test_new_data_are_labelled_by_the_champion_and_held_against_the_training_data(project):
    x = np.load(project / "artifacts/data/x.npy")
    np.save(project / "new.npy", x[:300])
    np.save(project / "dark.npy", x[:300] // 3)
    downsize(project, "predict", "--input", "new.npy", "--output", "labels.csv")
    labels = pd.read_csv(project / "labels.csv")["label"].to_numpy()
    assert (labels == np.load(project / "artifacts/data/y.npy")[:300]).mean() > 0.9
    same = downsize(project, "drift", "--input", "new.npy")
    assert same.stdout.endswith("No drift.\n")
    moved = downsize(project, "drift", "--input", "dark.npy", "--json", check=False)
    assert moved.returncode == 3
    assert {shift["column"] for shift in json.loads(moved.stdout) if shift["drifted"]} >= {"mean", "max"}
    wrong = downsize(project, "predict", "--input", "new.npy", "--output", "o.csv", "--model", "chamion", check=False)
    assert wrong.returncode == 1 and "has no alias 'chamion'" in wrong.stderr


def asked(url, body, server):
    """The server's answer, once it listens."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    for _ in range(90):
        try:
            return json.loads(urllib.request.urlopen(request).read())
        except (ConnectionError, urllib.error.URLError):
            assert server.poll() is None
            time.sleep(1)
    raise AssertionError("the server does not listen")
