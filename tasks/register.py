"""register: every variant a version of the registered model; `candidate` on the smallest that passed the budget."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from tasks.adapters.devices import devices_of
from tasks.adapters.packaging import Package, Rows
from tasks.adapters.parent_run import complete_parent
from tasks.adapters.registry import FIGURES, MODEL_ID, SHA256, Registry, Version, open_registry
from tasks.adapters.tracking import open_recipe
from tasks.adapters.versions import provenance
from tasks.data.dataset import load_dataset
from tasks.files import Files
from tasks.model_card import model_card, with_promotion
from tasks.params import Params, Register, Tracking, load_params
from tasks.report.variants import candidate

log = logging.getLogger(__name__)

CANDIDATE: Final = "candidate"
EXAMPLE_ROWS: Final = 3
EXAMPLE_NUMBERS: Final = 20_000  # the input example is JSON that people read: fewer rows where one is large


def register(params: Register, tracking: Tracking, files: Files) -> dict[str, float]:
    """Register each variant once, known by its name and its file's sha256, and point `candidate` at the best.

    A version that exists already keeps its origin; its gate, figures and devices become those of the latest evaluation.

    Raises:
        ValueError: tracking is off.
        ConnectionError: the registry does not answer.
    """
    summary = json.loads(files.reads["summary"].read_text(encoding="utf-8"))
    root = files.reads["summary"].parents[1]
    everything = load_params(root / "params.yaml")
    best = candidate(summary["variants"])
    try:
        with open_registry(tracking, root, params.model_name) as registry:
            known, versions = _register_all(registry, everything, summary, files)
            registry.point(CANDIDATE, versions[best].number if best else None)
            cards = _write_cards(registry, versions, summary, params, files)
    except ConnectionError as error:
        kept = "the variants stay in artifacts/; `downsize register` files them as soon as it answers"
        raise ConnectionError(f"{error}; {kept}") from None
    _write(files.writes["card"], cards[best or summary["final"]])
    models = {name: version.tags[MODEL_ID] for name, version in versions.items() if MODEL_ID in version.tags}
    # every section of the params that is a stage and has left figures; the others have no file in metrics/
    complete_parent(everything, root, list(everything.model_dump(by_alias=True)), models)
    new = len(versions) - known
    log.info(
        "register: %s in %s, %d known before; %s",
        f"{new} new version{'s' * (new > 1)}" if new else "nothing new",
        params.model_name,
        known,
        f"{CANDIDATE} is {best}, version {versions[best].number}"
        if best
        else f"no {CANDIDATE}: none passed the budget",
    )
    return {"new_versions": new, "known_versions": known}


def _register_all(
    registry: Registry, params: Params, summary: Mapping[str, Any], files: Files
) -> tuple[int, dict[str, Version]]:
    """How many were known, and the version of every variant."""
    with registry.exclusive():  # two at once would make two runs of the same recipe
        recipe = open_recipe(registry.client, params, files.reads["summary"].parents[1])
    origin, rows = provenance(params, recipe.root), _example(files.reads["data"])
    parents = {variant["name"]: variant["parent"] for variant in summary["variants"]}
    known, versions = 0, dict[str, Version]()
    for variant in _parents_first(summary["variants"]):
        name, folder = variant["name"], files.reads[variant["name"]]
        lineage = {one: files.reads[one] for one in _lineage(name, parents)}
        devices = devices_of(files.reads["deploy"], lineage, passed=variant["gate"] == "pass")
        package = Package(folder, rows, devices)
        key = {"variant": name, SHA256: _sha256(folder / "model.onnx")}
        if version := registry.find(**key):
            registry.tag(version, _judgement(variant))
            version = registry.refresh(version, package)
            known += 1
        else:
            descent = {"parent_version": str(versions[variant["parent"]].number)} if variant["parent"] else {}
            tags = {**key, **origin, **descent, **_judgement(variant)}
            version = registry.add(name, package, recipe, tags=tags)
        versions[name] = version
    return known, versions


def _write_cards(
    registry: Registry, versions: Mapping[str, Version], summary: Mapping[str, Any], params: Register, files: Files
) -> dict[str, str]:
    """The model card of every variant, which is its version's description from now on."""
    data = load_dataset(files.reads["data"]).card
    cards = {name: model_card(params.model_name, one, summary, data, params) for name, one in versions.items()}
    moves = {entry["version"]: entry for entry in registry.audit().values() if entry["state"] == "done"}
    for name, version in versions.items():
        if version.number in moves:
            cards[name] = with_promotion(cards[name], moves[version.number])
    for name, card in cards.items():
        registry.describe(versions[name], card)
    return cards


def _write(path: Path, text: str) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def _parents_first(variants: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The variants so that each follows the one it was made from."""
    parents = {variant["name"]: variant["parent"] for variant in variants}
    return sorted(variants, key=lambda variant: len(_lineage(variant["name"], parents)))


def _lineage(name: str, parents: Mapping[str, str | None]) -> list[str]:
    """The variant and those it was made from, itself first."""
    parent = parents[name]
    return [name, *_lineage(parent, parents)] if parent else [name]


def _judgement(variant: Mapping[str, Any]) -> dict[str, str]:
    """What the latest evaluation says; for the same file it changes with the budget and the machine."""
    return {"gate": variant["gate"], **{key: str(variant[key]) for key in FIGURES if variant.get(key) is not None}}


def _example(folder: Path) -> Rows:
    """A few raw rows, as a served version takes them."""
    data = load_dataset(folder)
    if data.card.columns:
        types = {column.name: float if column.kind == "numeric" else str for column in data.card.columns}
        return data.table(list(types)).head(EXAMPLE_ROWS).astype(types)
    fits = EXAMPLE_NUMBERS // max(1, int(np.prod(data.x.shape[1:])))
    return np.asarray(data.x[: max(1, min(EXAMPLE_ROWS, fits))], dtype=np.float32)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
