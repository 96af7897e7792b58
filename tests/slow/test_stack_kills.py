"""kill -9 of the stack's worker, PostgreSQL or Prefect server in the middle of each stage of scheduled runs."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from flow_runs import figures, left_over, small_project, wait_until
from stacks import call, native, process, running

from tasks.stages import STAGES

VICTIMS = ("worker", "postgres", "prefect")
NAMES = list(STAGES)
# said by the run itself, or by the worker of a run that was killed
END_OF_RUN = r"Flow run '[^']+' - Finished in state|exited with status code"
VERSIONS = """
import json, mlflow
versions = mlflow.MlflowClient().search_model_versions("name = 'downsize-smoke'")
print(json.dumps([version.tags["variant"] for version in versions]))
"""
START = """
from prefect.deployments import run_deployment
run_deployment("downsize/scheduled", timeout=0)
"""
# a run that was killed is not seen to have ended, and would keep the only slot for some minutes
END = """
from prefect import get_client
from prefect.states import Crashed
with get_client(sync_client=True) as client:
    for run in client.read_flow_runs():
        if not run.state.is_final():
            client.set_flow_run_state(run.id, Crashed(), force=True)
"""


class Scheduled:
    """Runs of one project by the stack's worker, whose log has all that they say."""

    def __init__(self, home, port, project):
        self.home, self.port, self.project, self.log = home, port, project, home / "worker.log"
        params = project / "params.yaml"
        params.write_text(
            params.read_text().replace("schedule: {}", "schedule: {cron: '0 3 1 1 *', pull: false, push: false}")
        )
        subprocess.run(["git", "commit", "-qam", "schedule"], cwd=project, check=True)
        call(home, project, sys.executable, "-m", "flows.cli", "serve", "--pool", "downsize")

    def start(self):
        self.before = self.log.stat().st_size
        call(self.home, self.project, sys.executable, "-c", START)

    def said(self):
        with self.log.open() as log:
            log.seek(self.before)
            return log.read()

    def wait_for(self, stage=None, within_s=900):
        """Until that stage has started, or the run has ended."""
        wanted = f"{stage}: started|{END_OF_RUN}" if stage else END_OF_RUN
        wait_until(lambda: re.search(wanted, self.said()), within_s)

    def started(self):
        return [name for name in NAMES if f"{name}: started" in self.said()]

    def clear(self):
        """As after an accident: end what runs still, start what has ended, say that the run is no more."""
        os.kill(process(self.home, "worker"), signal.SIGKILL)
        done = native(self.home, "up", self.port)
        assert done.returncode == 0, done.stderr
        call(self.home, self.project, sys.executable, "-c", END)


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("first", range(len(VICTIMS)), ids=VICTIMS)
def test_a_kill_at_any_stage_costs_no_finished_one(undisturbed, tmp_path, first):
    project = small_project(tmp_path / "project")
    with running() as (home, port):
        runs, finished = Scheduled(home, port, project), set()
        for number, name in enumerate(NAMES):
            victim = VICTIMS[(number + first) % len(VICTIMS)]
            runs.start()
            runs.wait_for(name)
            time.sleep(0.2)
            os.kill(process(home, victim), signal.SIGKILL)
            if victim != "worker" and number + 1 < len(NAMES):  # the run goes on, or ends by itself
                runs.wait_for(NAMES[number + 1])
            runs.clear()
            wait_until(lambda: not left_over(project), within_s=60)
            assert name in runs.started(), runs.said()[-3000:]
            assert finished.isdisjoint(runs.started()), f"{victim} at {name}: {runs.said()[-2000:]}"
            finished = set(NAMES[: NAMES.index(runs.started()[-1])])
        runs.start()
        runs.wait_for()
        assert set(runs.started()) <= {"evaluate", "register"}, runs.said()[-3000:]
        (workspace,) = [path for path in sorted((project / ".downsize/runs").iterdir()) if path.is_dir()][-1:]
        assert figures(workspace) == undisturbed
        assert not any((workspace / "artifacts/.partial").glob("*"))
        assert not [path for path in project.rglob("*.partial") if path.is_file()]
        variants = json.loads(call(home, project, sys.executable, "-c", VERSIONS).stdout)
        assert len(variants) == 5 == len(set(variants))
