"""Promotion and rollback: which version is `champion`, and what it replaced. Every move leaves an audit entry."""

from __future__ import annotations

import getpass
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from tasks.adapters.registry import Registry, Version, open_registry
from tasks.params import Params
from tasks.register import CANDIDATE

CHAMPION: Final = "champion"
PREVIOUS: Final = "previous"


@dataclass(frozen=True)
class Move:
    """What became of `champion`: from one version to another, or nothing to do."""

    action: str
    model: str
    version: int
    replaced: int | None

    def __str__(self) -> str:
        """One line for the terminal."""
        if self.action == "none":
            return f"{self.model}: version {self.version} is already {CHAMPION}"
        replaced = f", which replaces version {self.replaced}" if self.replaced else ""
        return f"{self.model}: {CHAMPION} is now version {self.version}{replaced}"


def promote(root: Path, params: Params) -> Move:
    """Make the candidate the champion, and the champion before it the previous one.

    Raises:
        ValueError: there is no candidate, or it did not pass the budget.
    """
    name = params.register_.model_name
    with open_registry(params.tracking, root, name) as registry:
        candidate, champion = registry.alias(CANDIDATE), registry.alias(CHAMPION)
        if candidate is None:
            raise ValueError(f"{name} has no {CANDIDATE}; `downsize run` sets it on a variant that passes the budget")
        if (gate := candidate.tags.get("gate")) != "pass":
            raise ValueError(f"{name}: version {candidate.number} has gate '{gate}'; only one that passed is promoted")
        return _move(registry, "promote", candidate, champion)


def rollback(root: Path, params: Params) -> Move:
    """Make the previous champion the champion again; the one it replaces becomes the previous one.

    Raises:
        ValueError: there is no previous champion.
    """
    name = params.register_.model_name
    with open_registry(params.tracking, root, name) as registry:
        previous, champion = registry.alias(PREVIOUS), registry.alias(CHAMPION)
        if previous is None:
            raise ValueError(f"{name} has no {PREVIOUS} {CHAMPION} to go back to")
        return _move(registry, "rollback", previous, champion)


def _move(registry: Registry, action: str, to: Version, champion: Version | None) -> Move:
    replaced = champion.number if champion else None
    if champion and champion.number == to.number:
        return Move("none", registry.model_name, to.number, replaced)
    move = Move(action, registry.model_name, to.number, replaced)
    registry.write_audit({**asdict(move), "who": getpass.getuser()})
    if champion:
        registry.point(PREVIOUS, champion)
    registry.point(CHAMPION, to)  # last: until here production is what it was
    return move
