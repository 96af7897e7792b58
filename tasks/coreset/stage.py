"""coreset: the part of the training split that the student learns from."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from tasks.coreset.collect import proxy_evidence, raw_features
from tasks.coreset.evidence import Chosen, Evidence, Quota
from tasks.coreset.representativeness import representativeness
from tasks.coreset.selection import NEEDS_TRAINING, choose, quota
from tasks.data.dataset import load_dataset
from tasks.data.splits import Splits, load_splits
from tasks.files import Files
from tasks.params import Coreset

log = logging.getLogger(__name__)


def coreset(params: Coreset, seed: int, files: Files) -> dict[str, float]:
    """Select, and say how well the selection stands for the training split."""
    data = load_splits(files.reads)
    classes = data.card.classes
    labels = data.train.targets(slice(None)).numpy()
    wanted = quota(labels, len(classes), fraction=params.fraction, per_class=params.per_class)
    evidence = collect(data, params, seed)
    if params.scope == "all":
        evidence, wanted = replace(evidence, groups=np.zeros_like(labels)), {0: sum(wanted.values())}
    chosen = _choose(params, evidence, wanted, seed)
    sizes = np.bincount(labels[chosen.indices], minlength=len(classes))
    if (sizes == 0).any():
        empty = classes[int(np.argmin(sizes))]
        raise ValueError(f"coreset: {params.method} left class '{empty}' without a sample; take more, or stratified")
    slices = _slices(data, files)
    found = representativeness(evidence.features, labels, chosen, np.random.default_rng(seed), slices)
    report = {
        "method": params.method,
        "features": params.features,
        "samples": len(chosen.indices),
        "of": len(labels),
        "per_class": dict(zip(classes, sizes.tolist(), strict=True)),
        **({"note": chosen.note} if chosen.note else {}),
        **found,
    }
    folder = files.writes["coreset"]
    folder.mkdir()
    np.savez(folder / "indices.npz", indices=data.train.indices[chosen.indices], weights=chosen.weights)
    (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return {
        "samples": len(chosen.indices),
        "fraction": len(chosen.indices) / len(labels),
        "smallest_class": int(sizes.min()),
        "coverage_radius": found["coverage_radius"],
        "mmd": found["mmd"],
    }


def collect(data: Splits, params: Coreset, seed: int) -> Evidence:
    """The features asked for, and the proxy's learning where the method goes by it."""
    dynamics = params.method in NEEDS_TRAINING
    if params.features == "raw" and not dynamics:
        return Evidence(raw_features(data), data.train.targets(slice(None)).numpy())
    start = time.perf_counter()
    evidence = proxy_evidence(data, params.proxy, seed, dynamics=dynamics)
    log.info("coreset: proxy trained for %d epochs, %.1f s", params.proxy.epochs, time.perf_counter() - start)
    return evidence if params.features == "proxy" else replace(evidence, features=raw_features(data))


def _choose(params: Coreset, evidence: Evidence, wanted: Quota, seed: int) -> Chosen:
    start = time.perf_counter()
    threshold = params.dedupe.threshold if params.dedupe else None
    rng = np.random.default_rng(seed)
    chosen = choose(params.method, evidence, wanted, rng, knobs=params.knobs(), threshold=threshold)
    seconds = time.perf_counter() - start
    log.info("coreset: %s chose %d of %d, %.1f s", params.method, len(chosen.indices), len(evidence), seconds)
    if chosen.note:
        log.warning("coreset: %s", chosen.note)
    return chosen


def _slices(data: Splits, files: Files) -> dict[str, npt.NDArray[np.str_]]:
    """The slice columns of the training split, as text."""
    if not data.card.slices:
        return {}
    table = load_dataset(files.reads["data"]).table(list(data.card.slices)).iloc[data.train.indices]
    return {name: table[name].to_numpy().astype(np.str_) for name in data.card.slices}
