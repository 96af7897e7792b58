"""register: every variant a version of the registered model; `candidate` on the smallest that passed the budget."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from tasks.adapters.registry import Registry, Version, open_registry
from tasks.adapters.tracking import complete_parent, open_recipe
from tasks.adapters.versions import provenance
from tasks.data.dataset import load_dataset
from tasks.files import Files
from tasks.params import Register, Tracking, load_params

log = logging.getLogger(__name__)

CANDIDATE: Final = "candidate"
EXAMPLES: Final = 5
FIGURES: Final = ("accuracy", "accuracy_drop", "accuracy_drop_upper95", "size_bytes", "latency_ms_p50", "macs")


def register(params: Register, tracking: Tracking, files: Files) -> dict[str, float]:
    """Register each variant once, by the sha256 of its file; a second call only moves `candidate` where it must.

    Raises:
        ValueError: tracking is off. ConnectionError: the registry does not answer.
    """
    summary = json.loads(files.reads["summary"].read_text(encoding="utf-8"))
    root = files.reads["summary"].parents[1]
    everything = load_params(root / "params.yaml")
    rows = load_dataset(files.reads["data"]).x[:EXAMPLES].astype(np.float32)
    origin = provenance(everything, root)
    added, versions, models = 0, dict[str, Version](), dict[str, str]()
    with open_registry(tracking, root, params.model_name) as registry:
        recipe = open_recipe(registry.client, everything, root)
        for variant in summary["variants"]:
            name, folder = variant["name"], files.reads[variant["name"]]
            digest = hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
            version = registry.find(variant=name, artifact_sha256=digest)
            tags = _tags(variant, digest, versions)
            if version is None:
                version = registry.add(name, folder, recipe, tags={**origin, **tags}, rows=rows)
                added += 1
            else:
                registry.tag(version, _verdict(variant))
            versions[name] = version
            if model := version.tags.get("model_id"):
                models[name] = model
        best = _choose(summary["variants"])
        registry.point(CANDIDATE, versions[best] if best else None)
    complete_parent(everything, root, _stages(root), models)
    what = f"{best}, version {versions[best].number}" if best else "none: no variant passes the budget"
    log.info("register: %d new versions of %s, %d known; candidate: %s", added, params.model_name, len(versions) - added, what)
    return {"new_versions": added, "known_versions": len(versions) - added}


def _choose(variants: list[dict[str, Any]]) -> str | None:
    """The smallest that passed; of equals, the first."""
    passed = [variant for variant in variants if variant["gate"] == "pass"]
    return str(min(passed, key=lambda variant: variant["size_bytes"])["name"]) if passed else None


def _tags(variant: Mapping[str, Any], digest: str, versions: Mapping[str, Version]) -> dict[str, str]:
    tags = {"variant": variant["name"], "artifact_sha256": digest, **_verdict(variant)}
    if parent := variant["parent"]:
        tags["parent_version"] = str(versions[parent].number)
    return tags


def _verdict(variant: Mapping[str, Any]) -> dict[str, str]:
    """What the last evaluation said; it may change for the same file, with the budget or the machine."""
    return {"gate": variant["gate"], **{key: f"{variant[key]:.6g}" for key in FIGURES}}


def _stages(root: Path) -> list[str]:
    """The stages that have left figures."""
    return sorted(path.stem for path in (root / "metrics").glob("*.json"))
