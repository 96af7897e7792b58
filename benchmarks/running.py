"""What the flow costs beside the bare stage functions, on the digits demo; times of a run that has nothing to do.

Part `flow` of benchmarks/orchestration.py.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from tasks.adapters.client import mlflow_client, open_experiment
from tasks.params import Tracking
from tasks.stages import STAGES

ROOT: Final = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))
METRICS: Final = 200
TURNS: Final = 3
BARE: Final = "from tasks.stages import STAGES, run_stage; [run_stage(name) for name in STAGES]"


def flow() -> tuple[list[dict[str, Any]], dict[str, float]]:
    """In turns: bare stages in one process, the flow, and that again with nothing to do, in projects of their own."""
    with tempfile.TemporaryDirectory() as folder:
        rows = [row for turn in range(TURNS) for row in _turn(Path(folder) / str(turn))]
        rows += _metrics(Path(folder))
    runs = {row["run"] for row in rows}
    wall = {run: statistics.median(row["wall_s"] for row in rows if row["run"] == run) for run in runs}
    return rows, {
        "flow_overhead_s": wall["flow"] - wall["bare stages"],
        "flow_overhead_share": wall["flow"] / wall["bare stages"] - 1,
        "noop_run_s": wall["flow, nothing to do"],
        "noop_repro_s": wall["dvc repro, nothing to do"],
        "mlflow_metric_ms": 1000 * wall["MLflow metric, one a call"] / METRICS,
        "mlflow_metric_batched_ms": 1000 * wall["MLflow metric, all in one call"] / METRICS,
    }


def _turn(folder: Path) -> list[dict[str, Any]]:
    from projects import environment, make_project

    folder.mkdir()
    bare, flowing = (make_project(folder / name, "params.yaml") for name in ("bare", "flow"))
    downsize = [sys.executable, "-m", "flows.cli", "run"]
    return [
        _timed("bare stages", [sys.executable, "-c", BARE], bare, environment(bare)),
        _timed("flow", downsize, flowing, environment(flowing)),
        _timed("flow, nothing to do", downsize, flowing, environment(flowing)),
        _timed("dvc repro, nothing to do", [sys.executable, "-m", "dvc", "repro"], flowing, environment(flowing)),
    ]


def _timed(name: str, command: list[str], project: Path, env: dict[str, str]) -> dict[str, Any]:
    """Wall and processor seconds of a command and all that it starts."""
    before, start = os.times(), time.perf_counter()
    load = os.getloadavg()[0]
    subprocess.run(command, cwd=project, env=env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wall, after = time.perf_counter() - start, os.times()
    processor = after.children_user + after.children_system - before.children_user - before.children_system
    return {"run": name, "wall_s": wall, "cpu_s": processor, "load": load, "stages": len(STAGES)}


def _metrics(folder: Path) -> list[dict[str, Any]]:
    from mlflow.entities import Metric

    rows = []
    with mlflow_client(Tracking(uri=f"sqlite:///{folder / 'mlflow.db'}"), folder) as client:
        run = client.create_run(open_experiment(client, Tracking(), folder)).info.run_id
        start = time.perf_counter()
        for step in range(METRICS):
            client.log_metric(run, "loss", 0.5, step=step)
        rows.append({"run": "MLflow metric, one a call", "wall_s": time.perf_counter() - start})
        start = time.perf_counter()
        client.log_batch(run, [Metric("accuracy", 0.5, 0, step) for step in range(METRICS)])
        rows.append({"run": "MLflow metric, all in one call", "wall_s": time.perf_counter() - start})
    return rows
