"""The verbs that fill, change and read the model registry."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from flows.options import JSON_OPTION, PARAMS_OPTION, params_path, project_root, show

if TYPE_CHECKING:
    from tasks.params import Params

REASON: Final = click.option("--reason", default="", help="Kept in the audit trail.")


@click.command()
@PARAMS_OPTION
def register(params: Path | None) -> None:
    """Register the variants that a run or `dvc repro` left here; twice changes nothing."""
    from flows.workspace import existing
    from tasks.stages import run_stage

    root, _ = _opened(params)
    run_stage("register", existing(root, params_path(params)))


@click.command()
@click.argument("version", default="candidate")
@PARAMS_OPTION
@click.option("--accept-inconclusive", default="", metavar="REASON", help="Promote what is not proven; why is kept.")
@click.option("--dry-run", is_flag=True, help="Compare it with the champion, and move nothing.")
@REASON
@JSON_OPTION
def promote(
    version: str, params: Path | None, accept_inconclusive: str, dry_run: bool, reason: str, as_json: bool
) -> None:
    """Move `champion` to the candidate, or to VERSION, if it passes the budget against teacher and champion."""
    from flows.promote import assess
    from flows.promote import promote as move
    from flows.workspace import existing

    root, recipe = _opened(params)
    workspace = existing(root, params_path(params))
    if dry_run:
        planned = assess(workspace, recipe, version, accepted=accept_inconclusive)
        would = f"{planned.model}: version {planned.version} may be promoted: {planned.why}"
        show(asdict(planned), would if planned.action == "promote" else str(planned), as_json)
        return
    moved = move(workspace, recipe, version, accepted=accept_inconclusive, reason=reason)
    show(asdict(moved), str(moved), as_json)


@click.command()
@PARAMS_OPTION
@REASON
@JSON_OPTION
def rollback(params: Path | None, reason: str, as_json: bool) -> None:
    """Put the previous champion back."""
    from flows.promote import rollback as move

    moved = move(*_opened(params), reason)
    show(asdict(moved), str(moved), as_json)


@click.command()
@click.argument("version", default="champion")
@PARAMS_OPTION
@JSON_OPTION
def lineage(version: str, params: Path | None, as_json: bool) -> None:
    """Print where VERSION, a number or an alias, comes from, down to data and commit, and who moved `champion`."""
    from flows.lineage import lineage as trace
    from flows.lineage import lineage_text

    found = trace(*_opened(params), version)
    show(asdict(found), lineage_text(found), as_json)


@click.command()
@click.argument("version", default="champion")
@PARAMS_OPTION
@click.option("--keep", is_flag=True, help="Leave the scratch workspace for a look.")
@JSON_OPTION
def reproduce(version: str, params: Path | None, keep: bool, as_json: bool) -> None:
    """Rebuild VERSION, a number or an alias, in a scratch workspace and compare the bytes, else the answers."""
    from flows.reproduce import reproduce as rebuild

    found = rebuild(*_opened(params), version, keep=keep)
    show(asdict(found), str(found), as_json)


VERBS: Final = (register, promote, rollback, lineage, reproduce)


def _opened(params: Path | None) -> tuple[Path, Params]:
    """The project's root, whose MLflow store is used from now on, and the recipe."""
    from flows.workspace import tracked
    from tasks.params import load_params

    root = project_root()
    tracked(root)
    return root, load_params(params_path(params))
