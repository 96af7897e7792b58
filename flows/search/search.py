"""`downsize search`: walk the recipes that a params file spans, choose by the budget, confirm once on test data."""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from flows.check import check_recipe
from flows.child import warm_process
from flows.search.confirm import confirm, statement
from flows.search.engine import ENGINES
from flows.search.front import choose, fewest_samples, front, nearest, would_have_to_give
from flows.search.outcome import Outcome, report_text, write_best, write_front
from flows.search.space import Raw, Space
from flows.search.study import Study, Turn, open_storage
from flows.search.trial import Job, reproduce, run_trial, write_params
from flows.search.walk import walk
from flows.workspace import FOLDER, tracked, version_data
from flows.worktree import add_worktree, link_data, sync
from tasks.adapters.searches import SearchRun
from tasks.adapters.versions import code_hash, data_sha256, recipe, result_params
from tasks.params import parse_params
from tasks.report.wording import points

__all__ = ["Options", "report_text", "search"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    """What is no part of the recipe: how many at once and where, under which name, and where the best is written."""

    workers: int = 1
    engine: str = "local"
    name: str | None = None
    output: Path = Path("params.best.yaml")


@dataclass(frozen=True)
class Place:
    """Where one search keeps what it has."""

    root: Path
    name: str

    @property
    def home(self) -> Path:
        """Of all searches: what one has judged no other judges again."""
        return self.root / FOLDER / "searches"

    @property
    def folder(self) -> Path:
        """Of this one."""
        return self.home / self.name

    def workspace(self, number: int) -> Path:
        """One of its git worktrees."""
        return self.folder / f"workspace-{number}"

    @cached_property
    def storage(self) -> str:
        """The study's database: OPTUNA_STORAGE, or SQLite in the search's folder."""
        return os.environ.get("OPTUNA_STORAGE") or f"sqlite:///{self.folder / 'study.db'}"


def search(root: Path, params: Path, options: Options) -> Outcome:
    """Run or take up the search that `params` declares; everything finished, by any search, is taken as it is.

    Raises:
        ValueError, FileNotFoundError, OSError: the params, the space or the storage are wrong, before any work.
        StageFailed: what all trials share did not get through.
    """
    with warm_process():
        check_recipe(root, params)
        space = Space(params)
        version_data(root, params)
        tracked(root)
        place = Place(root, options.name or _default_name(space, root))
        place.folder.mkdir(parents=True, exist_ok=True)
        with _alone(place):
            return _searched(space, place, options)


def _searched(space: Space, place: Place, options: Options) -> Outcome:
    storage = open_storage(place.storage)
    workspaces = [_laid_out(place, number) for number in range(options.workers + 1)]
    _share(space, workspaces[0])
    _warn_of_few_samples(space, workspaces[0])
    study = Study(place.name, space, storage, _identity(space, workspaces[0]), workers=options.workers)
    # each takes its share of the cores, or several would slow each other down
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // options.workers)))
    with ENGINES[options.engine](options.workers) as engine:
        walk(study, run_trial, _jobs(place, workspaces[0]), engine, workspaces, workers=options.workers)
    return _ended(study, place, workspaces[0], options.output)


def _ended(study: Study, place: Place, workspace: Path, output: Path) -> Outcome:
    rows = study.rows()
    if not rows:
        reasons = list(study.failures().values())
        raise ValueError(f"search: no trial got through; the first: {reasons[0] if reasons else 'none ran'}")
    outcome = Outcome(
        name=place.name,
        rows=rows,
        values={number: study.values(number) for number in rows},
        failures=study.failures(),
        front=front(rows),
        chosen=choose(rows, study.search.choose),
        folder=place.folder,
    )
    write_front(outcome)
    said = [shortfall(outcome)] if outcome.chosen is None else []
    if outcome.chosen is not None:
        outcome, said = _confirmed(outcome, study.space, workspace, output)
    _track(outcome, study.space, place, workspace, said)
    return replace(outcome, said=said)


def shortfall(outcome: Outcome) -> str:
    """The trial nearest to a budget that none meets, and what would have to give."""
    number = nearest(outcome.rows)
    return (
        f"no trial is inside the budget; the nearest is trial {number}: {would_have_to_give(outcome.rows[number])}; "
        "loosen that limit, or let more vary"
    )


def _confirmed(outcome: Outcome, space: Space, workspace: Path, output: Path) -> tuple[Outcome, list[str]]:
    """The chosen recipe on the test split, and as a params file."""
    assert outcome.chosen is not None
    values = outcome.values[outcome.chosen]
    raw, variant = space.recipe(values), outcome.rows[outcome.chosen]["name"]
    found = confirm(raw, variant, workspace, recipe=_key(raw, workspace), home=outcome.folder.parent)
    said = statement(outcome.rows[outcome.chosen], len(outcome.rows), found)
    write_best(space, values, [f"Trial {outcome.chosen} of search {outcome.name}.", *said], output)
    return replace(outcome, confirmation=found, params=output), said


def _track(outcome: Outcome, space: Space, place: Place, workspace: Path, said: list[str]) -> None:
    params = space.params({}, str(space.path))
    if not params.tracking.enabled:
        return
    run = SearchRun(outcome.name, params, place.root)
    for number, row in outcome.rows.items():
        run.log_trial(number, outcome.values[number], row, _key(space.recipe(outcome.values[number]), workspace))
    files = [outcome.folder / "front.csv", outcome.folder / "front.png", *([outcome.params] if outcome.params else [])]
    tests = outcome.confirmation.row if outcome.confirmation else {}
    figures = {f"test/{key}": tests[key] for key in ("accuracy", "accuracy_drop", "accuracy_drop_upper95") if tests}
    run.finish({"trials": len(outcome.rows), "front": len(outcome.front), **figures}, said, files)


def _jobs(place: Place, workspace: Path):  # type: ignore[no-untyped-def]
    """What a worker is handed for a turn: equal recipes share their result, whichever search they are of."""

    def job(turn: Turn) -> Job:
        log_file = place.folder / "logs" / f"trial-{turn.number}{'' if turn.share == 1 else '-short'}.log"
        return Job(turn.raw, place.home / "judged" / f"{_key(turn.raw, workspace)}.json", log_file)

    (place.home / "judged").mkdir(exist_ok=True)
    return job


def _key(raw: Raw, workspace: Path) -> str:
    """What makes two recipes the same: params, data and code."""
    return recipe(parse_params(raw, "recipe"), workspace)


def _share(space: Space, workspace: Path) -> None:
    """Make what all trials have in common, once, so that they find it in DVC's cache."""
    log.info("search: up to %s, which all trials share", " and ".join(space.shared()))
    write_params(space.recipe({}), workspace)
    reproduce(space.shared(), workspace, logging.getLogger(f"{__name__}.shared"))


def _warn_of_few_samples(space: Space, workspace: Path) -> None:
    samples = json.loads((workspace / "metrics" / "split.json").read_text(encoding="utf-8"))["validation"]
    limit, tried = space.params({}, str(space.path)).budget.max_accuracy_drop, space.search.trials
    if limit and samples < (needed := fewest_samples(limit, tried)):
        log.warning(
            "search: %s validation samples can prove no drop of %s pp for the best of %d trials; %s could, by a "
            "larger split.validation",
            *(f"{samples:,}", points(limit), tried, f"{needed:,}"),
        )


def _laid_out(place: Place, number: int) -> Path:
    """A workspace with the project's files as they are now."""
    folder = place.workspace(number)
    if not folder.exists():
        add_worktree(place.root, folder)
    sync(place.root, folder)
    link_data(place.root, folder)
    return folder


def _default_name(space: Space, root: Path) -> str:
    """The same params, space and code give the same name, so that the same command goes on where it stopped."""
    return _hash(_declared(space), code_hash(space.params({}, str(space.path)), root))[:8]


def _identity(space: Space, workspace: Path) -> str:
    return _hash(_declared(space), code_hash(space.params({}, str(space.path)), workspace), data_sha256(workspace))


def _declared(space: Space) -> str:
    """All that a study's trials depend on but their number and the choice among them."""
    walked = space.search.model_dump(mode="json", exclude={"trials", "choose"})
    return json.dumps([result_params(space.params({}, str(space.path))), walked], sort_keys=True)


def _hash(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


@contextmanager
def _alone(place: Place) -> Iterator[None]:
    """One process per search.

    Raises:
        ValueError: another one has it.
    """
    with (place.folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"search '{place.name}' is running already; wait for it, or give another --name") from None
        yield
