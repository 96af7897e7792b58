"""One recipe, from data to the file that ships, in a workspace of its own; and its figures on validation samples."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML

from flows.child import PYTHON_M, run_child
from flows.workspace import DEFAULT
from tasks.params import load_params

LAST: Final = "quantize"  # what comes after reads the test split


@dataclass(frozen=True)
class Job:
    """What a worker needs to know: the params as they are to be written, where the figures and the log go."""

    raw: Mapping[str, Any]
    result: Path
    log: Path


def run_trial(job: Job, workspace: Path) -> dict[str, Any]:
    """Make the file, judge it, and return its row; what DVC has kept of any trial is not made again.

    Raises:
        StageFailed, WorkspaceBusy: a process failed or was killed.
    """
    if not job.result.is_file():
        write_params(job.raw, workspace)
        with _log_to(job.log) as log:
            reproduce([LAST], workspace, log)
            command = [*PYTHON_M, "flows.search.judge", str(job.result)]
            run_child(command, "judge", workspace, log, _limit_s(workspace))
    row: dict[str, Any] = json.loads(job.result.read_text(encoding="utf-8"))
    return row


def reproduce(stages: Sequence[str], workspace: Path, log: logging.Logger) -> None:
    """Run stages and all before them, as far as they are stale."""
    command = [*PYTHON_M, "dvc", "--wait-for-lock", "repro", *stages]
    run_child(command, stages[-1], workspace, log, _limit_s(workspace))


def write_params(raw: Mapping[str, Any], workspace: Path) -> None:
    """The recipe as the workspace's params.yaml; its stages are not tracked, as the search tracks each trial whole."""
    quiet = {**raw, "tracking": {**(raw.get("tracking") or {}), "enabled": False}}
    partial = workspace / f".{DEFAULT}.partial"
    with partial.open("w", encoding="utf-8") as file:
        YAML(typ="safe", pure=True).dump(quiet, file)
    partial.replace(workspace / DEFAULT)


def _limit_s(workspace: Path) -> float:
    """How long a trial may take: all its stages together as long as the params grant one."""
    return load_params(workspace / DEFAULT).timeouts.stage_s


@contextmanager
def _log_to(path: Path) -> Iterator[logging.Logger]:
    """A logger whose lines go to the trial's own file, so that those of several at once do not mix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    log = logging.getLogger(f"search.{path.stem}")
    handler = logging.FileHandler(path, encoding="utf-8")
    log.addHandler(handler)
    log.propagate = False
    log.setLevel(logging.INFO)
    try:
        yield log
    finally:
        log.removeHandler(handler)
        handler.close()
