"""From a stage's name to a Prefect task: skip if fresh, else run it through DVC in a process group of its own.

DVC alone decides what is up to date; Prefect's result cache is off, because it restores values and never files.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path
from threading import Timer
from typing import Any, Final

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

Log = logging.Logger | logging.LoggerAdapter[Any]
BUSY: Final = "is busy, it is being blocked by"
DEADLINE_S: Final = 6 * 3600
GRACE_S: Final = 10
LINES_KEPT: Final = 25
# what DVC tells a person after every stage, and a log ten times over
HINTS: Final = {
    "Generating lock file 'dvc.lock'",
    "Updating lock file 'dvc.lock'",
    "To track the changes with git, run:",
    "git add dvc.lock",
    "To enable auto staging, run:",
    "dvc config core.autostage true",
    "Use `dvc push` to send your updates to remote storage.",
}
RETRY_DELAYS_S: Final = (2.0, 10.0, 30.0)


class StageFailed(RuntimeError):
    """The stage's own process failed; the message is its last line."""


class WorkspaceBusy(RuntimeError):
    """Another run holds files that this stage needs."""


def is_fresh(name: str, root: Path) -> bool:
    """Whether DVC finds the stage's inputs, params, code and outputs all as recorded.

    Raises:
        WorkspaceBusy: another run holds the stage's files.
    """
    from dvc.exceptions import DvcException
    from dvc.lock import LockError
    from dvc.repo import Repo

    try:
        # DVC takes paths in dvc.lock as relative to the process, not to its repository
        with chdir(root), Repo(_wait_for_lock=True) as repo:
            return not repo.status(targets=[name])
    except (LockError, DvcException) as error:
        if BUSY in str(error):
            raise WorkspaceBusy(_busy_line(name, str(error))) from None
        raise


def run_child(command: list[str], name: str, root: Path, log: Log, deadline_s: float = DEADLINE_S) -> None:
    """Run a stage's command in `root` and pass its lines on; its whole process group ends with this call.

    Raises:
        StageFailed: it failed, or did not end within `deadline_s`.
        WorkspaceBusy: another run holds the stage's files.
    """
    process = subprocess.Popen(
        command,
        cwd=root,
        env=_environment(root),
        text=True,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    late: list[bool] = []

    def expire() -> None:
        late.append(True)
        _stop(process)

    timer = Timer(deadline_s, expire)
    timer.daemon = True
    timer.start()
    tail: deque[str] = deque(maxlen=LINES_KEPT)
    try:
        assert process.stdout
        for line in process.stdout:
            if (text := line.rstrip()) and text.lstrip() not in HINTS:
                tail.append(text)
                log.info("%s", text)
        code = process.wait()
    finally:
        timer.cancel()
        _stop(process)
    if late:
        raise StageFailed(f"{name}: did not end within {deadline_s:.0f} s and was stopped")
    if code:
        output = "\n".join(tail)
        raise WorkspaceBusy(_busy_line(name, output)) if BUSY in output else StageFailed(_reason(name, tail))


def stage(name: str) -> Callable[[Path], bool]:
    """The Prefect task for one stage; calling it with the workspace tells whether the stage had to run."""

    @task(name=name, task_run_name=name, **_RETRIED)
    def run(workspace: Path) -> bool:
        log = get_run_logger()
        if is_fresh(name, workspace):
            log.info("%s: up to date", name)
            return False
        run_child(
            [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "--single-item", name], name, workspace, log
        )
        return True

    return run


def registration() -> Callable[[Path], None]:
    """The last task: not a DVC stage, since it changes the world outside; registering twice changes nothing."""

    @task(name="register", task_run_name="register", cache_policy=NO_CACHE, persist_result=False)
    def run(workspace: Path) -> None:
        run_child([sys.executable, "-m", "flows.cli", "stage", "register"], "register", workspace, get_run_logger())

    return run


def model_check() -> Callable[[Path], None]:
    """The task that tries the models on the data's shape, before the hours of training that would end in an error."""

    @task(name="check", task_run_name="check", **_RETRIED)
    def run(workspace: Path) -> None:
        if is_fresh("teacher", workspace) and is_fresh("distill", workspace):
            return
        run_child([sys.executable, "-m", "flows.cli", "check"], "check", workspace, get_run_logger())

    return run


def _can_pass(_task: object, _run: object, state: Any) -> bool:
    """A busy workspace is worth another try; a failed stage is not."""
    return "WorkspaceBusy" in str(state.message)


# for what asks DVC, and so may meet another run
_RETRIED: Final[dict[str, Any]] = {
    "cache_policy": NO_CACHE,
    "persist_result": False,
    "retries": len(RETRY_DELAYS_S),
    "retry_delay_seconds": list(RETRY_DELAYS_S),
    "retry_condition_fn": _can_pass,
}


def _environment(root: Path) -> dict[str, str]:
    """The child finds `downsize` beside this Python, runs the workspace's code, and knows its flow run."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    run = str(flow_run.get_id() or "")
    return {**os.environ, "PATH": path, "PYTHONPATH": str(root), "PYTHONUNBUFFERED": "1", "DOWNSIZE_FLOW_RUN": run}


def _stop(process: subprocess.Popen[str]) -> None:
    """End the process and all that it started: a trainer must not outlive its stage."""
    for sent in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sent)
        except ProcessLookupError:
            return
        try:
            process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            continue


def _reason(name: str, tail: deque[str]) -> str:
    """The stage's own error line where it printed one, else the last lines."""
    own = [line for line in tail if line.startswith("downsize: ")]
    return own[-1].removeprefix("downsize: ") if own else f"{name}: " + " | ".join(list(tail)[-3:])


def _busy_line(name: str, output: str) -> str:
    holder = output.rpartition("PID ")[2].partition(")")[0] or "unknown"
    return f"{name}: another run in this workspace holds its files (process {holder}); wait for it to end, or stop it"
