"""The table of stages: what each is called, needs and leaves behind; and the one way to run any of them.

dvc.yaml says the same in DVC's words (tests/test_agreement.py holds the two together).
"""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Final

from tasks.adapters.tracking import StageRun, stage_run
from tasks.files import Files
from tasks.params import load_params

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stage:
    """One row of the table.

    function: `module:name`, called with the params named in `params` (sections, or fields of one) in that order, then
        Files.
    beside: written too, but not versioned, because it carries times (logged to MLflow instead).
    """

    function: str
    params: tuple[str, ...]
    reads: Mapping[str, str]
    writes: Mapping[str, str]
    beside: Mapping[str, str] = field(default_factory=dict)


DATA: Final = {"data": "artifacts/data", "split": "artifacts/split.npz"}
VARIANTS: Final = {
    "teacher": "artifacts/teacher",
    "student_alone": "artifacts/student_alone",
    "student": "artifacts/student",
    "pruned": "artifacts/pruned",
    "quantized": "artifacts/quantized",
}
CORESET: Final = {"coreset": "artifacts/coreset"}


def _variants(*names: str) -> dict[str, str]:
    return {name: VARIANTS[name] for name in names}


STAGES: Final[Mapping[str, Stage]] = {
    "ingest": Stage("tasks.ingest:ingest", ("ingest", "seed"), {"source": "data"}, {"data": DATA["data"]}),
    "validate": Stage(
        "tasks.validate:validate",
        ("validate",),
        {"data": DATA["data"]},
        {"validation": "artifacts/validation.json"},
        {"docs": "reports/data_docs"},
    ),
    "split": Stage(
        "tasks.split:split",
        ("split", "seed"),
        {"data": DATA["data"], "validation": "artifacts/validation.json"},
        {"split": DATA["split"]},
    ),
    "coreset": Stage(
        "tasks.coreset.stage:coreset",
        ("coreset", "seed"),
        {"source": "data"} | DATA,  # coreset.extra_weight
        CORESET,
    ),
    "teacher": Stage("tasks.teacher:teacher", ("teacher", "seed"), DATA, _variants("teacher")),
    "distill": Stage(
        "tasks.distill.stage:distill",
        ("distill", "seed"),
        DATA | CORESET | _variants("teacher"),
        _variants("student_alone", "student"),
    ),
    "prune": Stage(
        "tasks.prune.stage:prune",
        # the ladder's limits; what else the budget says makes no other model
        ("prune", "budget.max_accuracy_drop", "budget.max_class_recall_drop", "seed"),
        DATA | CORESET | _variants("teacher", "student"),
        _variants("pruned"),
        {"diary": "reports/pruning"},
    ),
    "quantize": Stage(
        "tasks.quantize.stage:quantize",
        ("quantize", "budget.max_accuracy_drop", "budget.max_class_recall_drop", "seed"),  # the ladder's limits
        DATA | CORESET | _variants("teacher", "pruned"),
        _variants("quantized"),
        {"diary": "reports/quantization"},
    ),
    "evaluate": Stage(
        "tasks.evaluate.stage:evaluate",
        ("evaluate", "budget", "seed"),
        {"source": "data"} | DATA | CORESET | VARIANTS,  # evaluate.shifted reads a source, as ingest does
        {
            "summary": "reports/summary.json",
            "report": "reports/report.html",
            "plots": "reports/plots",
            "exemplars": "reports/exemplars",
            "deploy": "artifacts/deploy",
        },
    ),
    "register": Stage(
        "tasks.register:register",
        ("register", "tracking"),
        {"data": DATA["data"], "summary": "reports/summary.json", "deploy": "artifacts/deploy"} | VARIANTS,
        {},
        {"card": "reports/model_card.md"},
    ),
}


# several processes may share these; the first runs any other alone
TRAINING: Final = ("teacher", "distill", "prune", "quantize")
# what is free when a write has just failed for want of space
FULL_BYTES: Final = 64_000


def metrics_path(name: str) -> Path:
    """Where a stage's numbers lie, below the project's root."""
    return Path("metrics") / f"{name}.json"


def run_stage(name: str, root: Path = Path()) -> dict[str, float]:
    """Run one stage in the project at `root` and return its numbers.

    Outputs appear whole or not at all: the stage writes below artifacts/.partial, and only a finished stage is
    moved into place. Of several processes that torchrun started, the first alone leaves anything behind.

    Raises:
        ValueError: no such stage, or params.yaml is wrong.
        FileNotFoundError: an input is missing; the message says which stage makes it.
    """
    if name not in STAGES:
        raise ValueError(f"stage '{name}' does not exist; choose one of {', '.join(STAGES)}")
    stage, params = STAGES[name], load_params(root / "params.yaml")
    reads = {key: root / path for key, path in stage.reads.items()}
    for key, path in reads.items():
        if not path.exists():
            raise FileNotFoundError(f"{name}: {path} is missing; {_maker(key)} makes it")
    module, _, attribute = stage.function.partition(":")
    function = getattr(import_module(module), attribute)
    sections = [params.section(section) for section in stage.params]
    rank = _rank()
    if rank:
        logging.getLogger("tasks").setLevel(logging.WARNING)
        if name not in TRAINING:
            return {}
    log.info("%s: started", name)
    start = time.perf_counter()
    recorded = nullcontext(StageRun()) if rank else stage_run(name, params, root)
    with _together(), _partial(root, f"{name}.{rank}" if rank else name) as partial, recorded as run:
        writes = {key: partial / key / Path(path).name for key, path in stage.writes.items()}
        for path in writes.values():
            path.parent.mkdir(parents=True)
        beside = {key: root / path for key, path in stage.beside.items()}
        run.beside = tuple(beside.values())
        scratch = root / "artifacts" / ".scratch"
        metrics: dict[str, float] = function(*sections, Files(reads, {**writes, **beside}, scratch))
        if rank:
            return metrics
        finals = {key: root / path for key, path in stage.writes.items()}
        for key, path in writes.items():
            _replace(path, finals[key])
        if stage.writes:
            _write_json(root / metrics_path(name), metrics)
        run.finish(metrics, tuple(finals.values()))
    shutil.rmtree(scratch / "trainings" / name, ignore_errors=True)
    shown = ", ".join(f"{key} {value:,.6g}" for key, value in metrics.items())
    log.info("%s: %s, %.1f s", name, shown or "done", time.perf_counter() - start)
    return metrics


def _rank() -> int:
    """This process's number among those that torchrun started; 0 alone."""
    return int(os.environ.get("RANK", "0")) if int(os.environ.get("WORLD_SIZE", "1")) > 1 else 0


@contextmanager
def _together() -> Iterator[None]:
    """None of several processes leaves before all are done, but at a failure."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        yield
        return
    from torch import distributed

    try:
        yield
        if distributed.is_initialized():
            distributed.barrier()
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()


class _partial:
    """A fresh folder for unfinished outputs, gone at the end whatever happens."""

    def __init__(self, root: Path, name: str) -> None:
        self.folder = root / "artifacts" / ".partial" / name

    def __enter__(self) -> Path:
        shutil.rmtree(self.folder, ignore_errors=True)  # left by a run that was killed
        self.folder.mkdir(parents=True)
        return self.folder

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, *_: object) -> None:
        full = _disk_full(self.folder, error)
        shutil.rmtree(self.folder, ignore_errors=True)
        if full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.folder.resolve())) from error


def _disk_full(folder: Path, error: BaseException | None) -> bool:
    """Whether a stage failed for want of space: each library says so in its own way, and NumPy not at all."""
    if not isinstance(error, Exception) or isinstance(error, ValueError):
        return False
    said = any(words in str(error).lower() for words in ("no space left", "disk is full"))
    return said or shutil.disk_usage(folder).free < FULL_BYTES


def _replace(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_dir():
        shutil.rmtree(target)
    source.replace(target)


def _write_json(path: Path, metrics: Mapping[str, float]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(metrics, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    partial.replace(path)


def _maker(key: str) -> str:
    if key == "source":
        return "the checkout (an empty folder will do)"
    return f"`downsize stage {next(name for name, stage in STAGES.items() if key in stage.writes)}`"
