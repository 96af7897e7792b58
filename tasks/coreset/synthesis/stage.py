"""coreset, where samples are made instead of chosen: the set, and how far it stands for the training split."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path

import numpy as np

from tasks.coreset.collect import raw_features
from tasks.coreset.evidence import Chosen
from tasks.coreset.representativeness import representativeness
from tasks.coreset.synthesis.make import make
from tasks.coreset.synthesis.real import Made
from tasks.data.splits import Splits
from tasks.data.synthesized import save_synthesized
from tasks.params.coreset import Making

log = logging.getLogger(__name__)


def synthesize(params: Making, data: Splits, seed: int, folder: Path) -> dict[str, float]:
    """Make the samples, write them as a data set folder, and report."""
    start = time.perf_counter()
    real, made = make(params, params.method, data.train, data.card, seed)
    log.info("coreset: %s made %d samples, %.1f s", params.method, len(made.images), time.perf_counter() - start)
    found = _representativeness(data, made, seed)
    count = len(made.images) // real.classes
    report = {
        "method": params.method,
        "taken": params.method,
        "made": True,
        "features": "raw",
        "samples": len(made.images),
        "of": len(data.train),
        "formation": made.formation,
        "labels": params.labels,
        "per_class": dict.fromkeys(data.card.classes, count),
        "per_class_of": {name: len(own) for name, own in zip(data.card.classes, real.members, strict=True)},
        "note": "made samples are not judged against random ones",
        **found,
    }
    folder.mkdir()
    save_synthesized(folder, real.raw(made.images), made.labels.cpu().numpy(), data.card, params.method)
    (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return {
        "samples": len(made.images),
        "fraction": len(made.images) / len(data.train),
        "smallest_class": count,
        "coverage_radius": found["coverage_radius"],
        "mmd": found["mmd"],
    }


def _representativeness(data: Splits, made: Made, seed: int) -> dict[str, float]:
    """As of a selection from the real and the made samples together, in raw features; the drift is a little less so."""
    features, labels = raw_features(data), data.train.targets(slice(None)).numpy()
    own = made.inputs().cpu().flatten(1).numpy()
    places = np.arange(len(features), len(features) + len(own))
    chosen = Chosen(places, np.full(len(own), len(features) / len(own)))
    every = np.concatenate([features, own])
    of_every = np.concatenate([labels, made.labels.argmax(1).cpu().numpy()])
    return representativeness(every, of_every, chosen, np.random.default_rng(seed))
