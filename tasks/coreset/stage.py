"""coreset: the part of the training split that the student learns from."""

from __future__ import annotations

import json

import numpy as np

from tasks.coreset.features import proxy_features, raw_features
from tasks.coreset.selection import SELECTIONS, coverage_radius, quota
from tasks.data.splits import load_splits
from tasks.files import Files
from tasks.params import Coreset


def coreset(params: Coreset, seed: int, files: Files) -> dict[str, float]:
    """Select, and say how well the selection covers the training split."""
    data = load_splits(files.reads)
    labels = data.train.targets(slice(None)).numpy()
    counts = quota(labels, len(data.card.classes), fraction=params.fraction, per_class=params.per_class)
    features = raw_features(data) if params.features == "raw" else proxy_features(data, params.proxy, seed)
    chosen = np.sort(SELECTIONS[params.method](features, labels, counts, np.random.default_rng(seed)))
    sizes = np.bincount(labels[chosen], minlength=len(data.card.classes))
    radius = coverage_radius(features, chosen)
    report = {
        "method": params.method,
        "features": params.features,
        "samples": len(chosen),
        "of": len(labels),
        "per_class": dict(zip(data.card.classes, sizes.tolist(), strict=True)),
        "coverage_radius": radius,
    }
    folder = files.writes["coreset"]
    folder.mkdir()
    np.savez(folder / "indices.npz", indices=data.train.indices[chosen])
    (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return {
        "samples": len(chosen),
        "fraction": len(chosen) / len(labels),
        "smallest_class": int(sizes.min()),
        "coverage_radius": radius,
    }
