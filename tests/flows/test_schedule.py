"""A scheduled run of the pipeline really appears: some versions of Prefect's own dependencies silence its scheduler."""

import subprocess
import sys

import pytest
from projects import ROOT
from servers import prefect_server

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
    with prefect_server(tmp_path, PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS="1") as settings:
        yield settings


def test_a_scheduled_run_of_the_pipeline_appears(server):
    done = subprocess.run([sys.executable, "-c", DEPLOY], cwd=ROOT, env=server, capture_output=True, text=True)
    assert "scheduled" in done.stdout, done.stderr[-2000:]
