"""What a flow run shows on its page in Prefect beside states and logs: progress, the comparison and the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from prefect.artifacts import create_link_artifact, create_progress_artifact, create_table_artifact

from tasks.stages import STAGES

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
    create_progress_artifact(100 * done / len(STAGES), "progress", f"{name} is done, {done} of {len(STAGES)} stages")


def show_results(workspace: Path) -> None:
    """The comparison of all variants with its verdict, and where the report lies."""
    summary = json.loads((workspace / "reports" / "summary.json").read_text(encoding="utf-8"))
    rows: list[dict[str, Any]] = [{key: row[key] for key in COLUMNS if key in row} for row in summary["variants"]]
    create_table_artifact(rows, "comparison", summary["verdict"])
    report = (workspace / "reports" / "report.html").resolve()
    create_link_artifact(report.as_uri(), report.name, "report", f"The report on this machine: {report}")
