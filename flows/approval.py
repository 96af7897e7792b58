"""Before production, a person: the flow pauses until somebody resumes it in Prefect's UI, and then promotes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from prefect import get_run_logger
from prefect.flow_runs import pause_flow_run
from prefect.input import RunInput
from pydantic import Field

from flows.child import environment, run_child
from tasks.params import load_params

PROMOTE: Final = (sys.executable, "-m", "flows.cli", "promote")
WAIT_S: Final = 7 * 24 * 3600
POLL_S: Final = 5
DEADLINE_S: Final = 3600.0


class Approval(RunInput):
    """The form that the UI shows; both are kept in the audit trail."""

    approved_by: str = Field(min_length=1)
    reason: str = Field(min_length=1)


def approve(workspace: Path) -> None:
    """Where register.approval is true: pause until a person resumes the run, then promote the candidate.

    Where nothing may be promoted, the log says why and nobody is asked.

    Raises:
        FlowPauseTimeout: nobody resumed it within a week.
        StageFailed: what was to be promoted may not be any more.
    """
    if not load_params(workspace / "params.yaml").register_.approval:
        return
    log = get_run_logger()
    planned, why_not = _planned(workspace)
    if planned is None:
        log.warning("approval: nobody is asked: %s", why_not)
        return
    log.info("approval: %s version %d waits for a person to resume this run", planned["model"], planned["version"])
    asked = Approval.with_initial_data(description=_question(planned))
    answer = pause_flow_run(wait_for_input=asked, timeout=WAIT_S, poll_interval=POLL_S, key="approval")
    reason = f"approved by {answer.approved_by}: {answer.reason}"
    command = [*PROMOTE, str(planned["version"]), "--reason", reason]
    run_child(command, "promote", workspace, log, DEADLINE_S)


def _planned(workspace: Path) -> tuple[dict[str, Any] | None, str]:
    """What promotion would do, or why it would not."""
    command = [*PROMOTE, "--dry-run", "--json"]
    done = subprocess.run(
        command, cwd=workspace, env=environment(workspace), capture_output=True, text=True, check=False
    )
    if done.returncode:
        return None, (done.stderr.strip().splitlines() or ["no reason given"])[-1].removeprefix("downsize: ")
    planned: dict[str, Any] = json.loads(done.stdout)
    return (planned, "") if planned["action"] == "promote" else (None, planned["why"])


def _question(planned: dict[str, Any]) -> str:
    replaced = f"in place of version {planned['replaced']}" if planned["replaced"] else "as the first champion"
    figures = {key: value for key, value in planned["figures"].items() if isinstance(value, (int, float))}
    rows = "\n".join(f"| {key} | {value:,.6g} |" for key, value in figures.items())
    return (
        f"Promote **{planned['model']} version {planned['version']}** {replaced}?\n\n{planned['why']}\n\n"
        f"| figure | |\n|---|---|\n{rows}\n\nResume to promote; cancel the run to leave everything as it is."
    )
