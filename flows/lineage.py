"""Where a registered version comes from: what it was made from, data, params, code, packages, flow run, judgement."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from tasks.adapters.registry import FIGURES, SHA256, Registry, Version, open_registry
from tasks.params import Params

ORIGIN: Final = {
    "file": SHA256,
    "data": "data_sha256",
    "split": "split_sha256",
    "params": "params_sha256",
    "dvc.lock": "dvc_lock",
    "commit": "git_commit",
    "packages": "packages",
    "flow run": "flow_run",
}
_UNFINISHED: Final = {"begun": " (cut off; the next move settles it)", "cut off": " (cut off before it took effect)"}
DIRTY: Final = ", with changes that were not committed"


@dataclass(frozen=True)
class Generation:
    """One version of the ancestry. origin: hashes and identities by the names of ORIGIN; run_id: its MLflow run."""

    version: int
    variant: str
    created: str
    aliases: list[str]
    gate: str
    figures: dict[str, float]
    origin: dict[str, str]
    run_id: str
    data_name: str
    params: dict[str, str]


@dataclass(frozen=True)
class Lineage:
    """The version asked for and what it was made from, in that order; what is gone; the moves of the champion."""

    model: str
    ancestry: list[Generation]
    missing: int | None
    audit: list[dict[str, Any]]


def lineage(root: Path, params: Params, name: str) -> Lineage:
    """Of the version `name`, a number or an alias.

    Raises:
        ValueError: there is no such version.
        ConnectionError: the registry does not answer.
    """
    model = params.register_.model_name
    with open_registry(params.tracking, root, model) as registry:
        known, aliases = {one.number: one for one in registry.versions()}, registry.aliases()
        waiting: int | None = registry.resolve(name).number
        ancestry = []
        while waiting in known:
            version = known.pop(waiting)  # a circle in the tags ends here
            ancestry.append(_generation(registry, version, aliases))
            parent = version.tags.get("parent_version", "")
            waiting = int(parent) if parent.isdecimal() else None
        return Lineage(model, ancestry, waiting, list(registry.audit().values()))


def lineage_text(found: Lineage) -> str:
    """Version by version, each with what differs from the one above it, then the audit trail."""
    lines, above = list[str](), dict[str, str]()
    for place, one in enumerate(found.ancestry):
        named = f" ({', '.join(one.aliases)})" if one.aliases else ""
        made = "" if not place else "made from "
        lines.append(f"{made}{found.model} version {one.version}{named}: {one.variant}, gate {one.gate}, {one.created}")
        shown = {**{key: f"{value:,.6g}" for key, value in one.figures.items()}, **one.origin}
        shown["run"] = one.run_id
        if one.data_name:
            shown["data"] = f"{one.data_name}, sha256 {one.origin.get('data', 'unknown')}"
        lines += [f"  {key:22} {value}" for key, value in shown.items() if above.get(key) != value]
        above = shown
    if found.missing is not None:
        lines.append(f"made from version {found.missing}, which is no longer in the registry")
    return "\n".join([*lines, "", *(_audit_lines(found.audit) or ["no version was promoted yet"])])


def _audit_lines(audit: list[dict[str, Any]]) -> list[str]:
    return [
        f"{entry['when']} {entry['who']}: {entry['action']} from version {entry['replaced'] or 'none'} "
        f"to {entry['version']}: {entry['why']}{_UNFINISHED.get(entry['state'], '')}"
        for entry in audit
    ]


def _generation(registry: Registry, version: Version, aliases: dict[str, int]) -> Generation:
    tags = version.tags
    origin = {name: tags[tag] for name, tag in ORIGIN.items() if tag in tags}
    if tags.get("git_dirty") == "true":
        origin["commit"] += DIRTY
    name, params = registry.run_of(version)
    return Generation(
        version=version.number,
        variant=tags.get("variant", "unknown"),
        created=datetime.fromtimestamp(version.created_ms / 1000, UTC).isoformat(timespec="seconds"),
        aliases=sorted(alias for alias, number in aliases.items() if number == version.number),
        gate=tags.get("gate", "unknown"),
        figures={key: float(tags[key]) for key in FIGURES if key in tags},
        origin=origin,
        run_id=version.run_id,
        data_name=name,
        params=params,
    )
