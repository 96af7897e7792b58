"""A scheduled run of the pipeline really appears: some versions of Prefect's own dependencies silence its scheduler."""

import os
import signal
import subprocess
import sys
import time
import urllib.request

import pytest
from projects import ROOT, environment, free_port

DEPLOY = """
from prefect import get_client
from flows.downsize import downsize

identity = downsize.to_deployment("nightly", interval=3600).apply()
with get_client(sync_client=True) as client:
    import time
    for _ in range(60):
        runs = client.read_flow_runs()
        if any(run.deployment_id == identity and run.state.is_scheduled() for run in runs):
            print("scheduled")
            break
        time.sleep(1)
"""


@pytest.fixture
def server(tmp_path):
    port = free_port()
    settings = {
        **environment(tmp_path),
        "PYTHONPATH": str(ROOT),
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "1",
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
    }
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with open(tmp_path / "server.log", "w") as log:
        process = subprocess.Popen(command, env=settings, stdout=log, stderr=log, start_new_session=True)
    try:
        for _ in range(120):
            try:
                urllib.request.urlopen(f"{settings['PREFECT_API_URL']}/health")
                break
            except OSError:
                assert process.poll() is None, (tmp_path / "server.log").read_text()[-2000:]
                time.sleep(1)
        yield settings
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def test_a_scheduled_run_of_the_pipeline_appears(server):
    done = subprocess.run([sys.executable, "-c", DEPLOY], cwd=ROOT, env=server, capture_output=True, text=True)
    assert "scheduled" in done.stdout, done.stderr[-2000:]
