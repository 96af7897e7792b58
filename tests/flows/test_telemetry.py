"""Nobody is told anything: what each package itself says of its telemetry in the processes that `downsize` starts."""

import json
import sys

from projects import make_project, run

SAYS = """
import json, os
import dvc.analytics, mlflow.telemetry.utils
from prefect.settings import PREFECT_SERVER_ANALYTICS_ENABLED
print("says", json.dumps({
    "dvc": dvc.analytics.is_enabled(),
    "mlflow": not mlflow.telemetry.utils.is_telemetry_disabled(),
    "prefect server": PREFECT_SERVER_ANALYTICS_ENABLED.value(),
    "do not track": os.environ["DO_NOT_TRACK"],
    "great expectations": os.environ["GX_ANALYTICS_ENABLED"],
    "ray": os.environ["RAY_USAGE_STATS_ENABLED"],
}), flush=True)
"""
CHILD = """
import logging, sys
from pathlib import Path
from flows.child import run_child
from flows.cli import downsize

downsize(["list", "pattern"], standalone_mode=False)
logging.basicConfig(level="INFO", format="%(message)s", stream=sys.stdout, force=True)
run_child([sys.executable, "asked.py"], "telemetry", Path.cwd(), logging.getLogger(), 120)
"""


def test_telemetry_is_off_in_every_child(tmp_path):
    project = make_project(tmp_path / "project")
    (project / ".dvc/config").write_text("")  # the project's own setting aside
    (project / "asked.py").write_text(SAYS)
    unset = [f"--unset={name}" for name in ("CI", "DO_NOT_TRACK", "DVC_NO_ANALYTICS", "DVC_TEST", "GITHUB_ACTIONS")]
    said = run(project, "env", *unset, sys.executable, "-c", CHILD).stdout
    (line,) = [line for line in said.splitlines() if line.startswith("says")]
    assert json.loads(line.removeprefix("says")) == {
        "dvc": False,
        "mlflow": False,
        "prefect server": False,
        "do not track": "1",
        "great expectations": "false",
        "ray": "0",
    }
