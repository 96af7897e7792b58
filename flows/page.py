"""What a flow run shows on its page in Prefect beside states and logs: progress, the comparison and the report.

A server that is gone costs the page, never the run.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from prefect.artifacts import create_link_artifact, create_progress_artifact, create_table_artifact

from tasks.stages import STAGES

log = logging.getLogger(__name__)

COLUMNS: Final = (
    "name",
    "accuracy",
    "accuracy_drop",
    "accuracy_drop_upper95",
    "size_bytes",
    "macs",
    "latency_ms_p50",
    "gate",
)


def show_progress(name: str) -> None:
    """Say that this stage has been passed."""
    done = list(STAGES).index(name) + 1
    said = f"{name} is done, {done} of {len(STAGES)} stages"
    _attempt(lambda: create_progress_artifact(100 * done / len(STAGES), "progress", said))


def show_results(workspace: Path) -> None:
    """The comparison of all variants with its verdict, and where the report lies."""
    summary = json.loads((workspace / "reports" / "summary.json").read_text(encoding="utf-8"))
    rows: list[dict[str, Any]] = [{key: row[key] for key in COLUMNS if key in row} for row in summary["variants"]]
    report = (workspace / "reports" / "report.html").resolve()
    _attempt(lambda: create_table_artifact(rows, "comparison", summary["verdict"]))
    _attempt(lambda: create_link_artifact(report.as_uri(), report.name, "report", f"On this machine: {report}"))


def _attempt(show: Callable[[], object]) -> None:
    try:
        show()
    except Exception as error:  # whatever a server that is gone makes Prefect's client raise
        log.warning("page: Prefect does not answer (%s); the run goes on", type(error).__name__)
