"""Promotion and rollback: which version is `champion`, and what it replaced. Every move leaves an audit entry."""

from __future__ import annotations

import getpass
import socket
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

from tasks.adapters.registry import Registry, Version, open_registry
from tasks.params import Params
from tasks.register import CANDIDATE

CHAMPION: Final = "champion"
PREVIOUS: Final = "previous"
ROLLED_BACK: Final = "rolled_back"


@dataclass(frozen=True)
class Move:
    """What became of `champion`: from version `replaced` to `version`, or nothing to do."""

    action: Literal["promote", "rollback", "none"]
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
        ValueError: there is no candidate, it did not pass the budget, or it was rolled back before.
        ConnectionError: the registry does not answer.
    """
    name = params.register_.model_name
    with open_registry(params.tracking, root, name) as registry:
        candidate, champion = registry.alias(CANDIDATE), registry.alias(CHAMPION)
        if candidate is None:
            raise ValueError(
                f"{name} has no {CANDIDATE}; `downsize register` sets it on a variant that passes the budget"
            )
        if champion and champion.number == candidate.number:
            return Move("none", name, champion.number, None)
        _may_ship(name, candidate)
        if champion:
            registry.point(PREVIOUS, champion)
        return _crown(registry, Move("promote", name, candidate.number, _number(champion)), candidate)


def rollback(root: Path, params: Params) -> Move:
    """Put the previous champion back; the one it replaces is marked, so that no schedule promotes it again.

    Rolling back goes one step and no further: the alias `previous` is gone afterwards.

    Raises:
        ValueError: there is no previous champion.
        ConnectionError: the registry does not answer.
    """
    name = params.register_.model_name
    with open_registry(params.tracking, root, name) as registry:
        previous, champion = registry.alias(PREVIOUS), registry.alias(CHAMPION)
        if previous is None:
            raise ValueError(f"{name} has no {PREVIOUS} {CHAMPION} to go back to")
        if champion and champion.number == previous.number:  # an earlier rollback was cut off here
            move = Move("none", name, champion.number, None)
        else:
            if champion:
                registry.tag(champion, {ROLLED_BACK: f"{_now()} by {_who()}"})
            move = _crown(registry, Move("rollback", name, previous.number, _number(champion)), previous)
        registry.point(PREVIOUS, None)
        return move


def _may_ship(name: str, candidate: Version) -> None:
    if (gate := candidate.tags.get("gate")) != "pass":
        raise ValueError(f"{name}: version {candidate.number} has gate '{gate}'; only one that passed is promoted")
    if when := candidate.tags.get(ROLLED_BACK):
        raise ValueError(
            f"{name}: version {candidate.number} was rolled back at {when}; "
            f"delete its tag '{ROLLED_BACK}' in the registry to promote it again"
        )


def _crown(registry: Registry, move: Move, version: Version) -> Move:
    """Write down who moves what, on the model and on the version, and move the alias."""
    registry.write_audit({**asdict(move), "who": _who()})
    past = "promoted" if move.action == "promote" else "restored"
    registry.tag(version, {f"{past}_at": _now(), f"{past}_by": _who(), "replaced": str(move.replaced or "nothing")})
    registry.point(CHAMPION, version)  # last: until here production is what it was
    return move


def _number(version: Version | None) -> int | None:
    return version.number if version else None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _who() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = "unknown"
    return f"{user}@{socket.gethostname()}"
