"""coreset, where samples are made instead of chosen: the set, and how far it stands for the training split."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Any, Final

import numpy as np

from tasks.coreset.collect import collect, raw_features
from tasks.coreset.evidence import Chosen
from tasks.coreset.judge import judge_samples
from tasks.coreset.representativeness import representativeness
from tasks.coreset.selection import choose, quota
from tasks.coreset.synthesis.make import make
from tasks.coreset.synthesis.real import Made
from tasks.data.batches import Samples
from tasks.data.splits import Splits
from tasks.data.synthesized import load_synthesized, save_synthesized
from tasks.files import Files
from tasks.params.coreset import Making
from tasks.training.scratch import scratch_of

log = logging.getLogger(__name__)

NOT_JUDGED: Final = "made samples, not judged against random ones: coreset.judge is null"


def synthesize(params: Making, data: Splits, seed: int, files: Files) -> dict[str, float]:
    """Make the samples, write them as a data set folder, judge what was written, and report."""
    start = time.perf_counter()
    real, made = make(params, params.method, data.train, data.card, seed)
    log.info("coreset: %s made %d samples, %.1f s", params.method, len(made.images), time.perf_counter() - start)
    folder = files.writes["coreset"]
    folder.mkdir()
    save_synthesized(folder, real.raw(made.images), made.labels.cpu().numpy(), data.card, params.method)
    judged = _judged(params, data, load_synthesized(folder, data.card), seed, files.scratch) if params.judge else None
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
        **({"verdict": judged["verdict"], "judge": judged} if judged else {"note": NOT_JUDGED}),
        **found,
    }
    (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return {
        "samples": len(made.images),
        "fraction": len(made.images) / len(data.train),
        "smallest_class": count,
        "coverage_radius": found["coverage_radius"],
        "mmd": found["mmd"],
        **({"gain_over_random": judged["gain"]} if judged else {}),
    }


def _judged(params: Making, data: Splits, made: Samples, seed: int, scratch: Path | None) -> dict[str, Any]:
    """Against as many random samples with the proxy's soft labels: hard ones would be beaten by soft labels alone."""
    assert params.judge is not None
    start = time.perf_counter()
    # answers at the end of the training, not the early ones that tell hard samples from easy ones
    proxy = params.proxy.model_copy(update={"early": params.proxy.epochs})
    kept = scratch_of(scratch, "coreset", data.card.sha256)
    evidence = collect(data, "proxy", proxy, seed, dynamics=True, scratch=kept)
    wanted = quota(evidence.labels, len(data.card.classes), fraction=None, per_class=params.per_class)
    drawn = []
    for place in range(params.judge.seeds):
        chosen = choose("stratified", evidence, wanted, np.random.default_rng(seed + place)).indices
        labels = evidence.need("probabilities")[chosen]
        drawn.append(Samples(data.train.x[data.train.indices[chosen]], labels, np.arange(len(chosen))))
    found = judge_samples(data, made, drawn, params.judge, width=params.proxy.width, seed=seed)
    seconds = time.perf_counter() - start
    trained = f"{len(found['runs'])} trainings of {found['steps']} steps"
    log.info("coreset: %s %s with soft labels; %s, %.1f s", params.method, found["verdict"], trained, seconds)
    return found


def _representativeness(data: Splits, made: Made, seed: int) -> dict[str, float]:
    """As of a selection from the real and the made samples together, in raw features; the drift is a little less so."""
    features, labels = raw_features(data), data.train.targets(slice(None)).numpy()
    own = made.inputs().cpu().flatten(1).numpy()
    places = np.arange(len(features), len(features) + len(own))
    chosen = Chosen(places, np.full(len(own), len(features) / len(own)))
    every = np.concatenate([features, own])
    of_every = np.concatenate([labels, made.labels.argmax(1).cpu().numpy()])
    return representativeness(every, of_every, chosen, np.random.default_rng(seed))
