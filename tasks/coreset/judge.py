"""Whether the chosen samples teach more than random ones: small networks, trained on both and measured alike.

Every training takes the same number of steps, whatever the size of its set, so that none gains by seeing more batches:
`epochs` passes over the whole training split, but FEWEST_STEPS to MOST_STEPS of them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.stats import t
from torch import Tensor
from tqdm import tqdm

from tasks.coreset.evidence import Chosen, Indices
from tasks.coreset.proxies import ARCHITECTURES, network, step_
from tasks.data.augment import generator_of
from tasks.data.batches import Samples, shuffled
from tasks.data.splits import Splits
from tasks.measure.accuracy import logits
from tasks.models.normalised import Normalised
from tasks.params import Judge, Train
from tasks.training.optimizer import learning_rate, make_optimizer

BATCH: Final = 64
FEWEST_STEPS: Final = 100
MOST_STEPS: Final = 1000
MOST_FULL: Final = 20_000  # samples of a training split that is trained on whole, to compare
LOOKED_AT: Final = 5000  # of a set, for the accuracy on the samples it was trained on
BINS: Final = 15
FIGURES: Final = ("accuracy", "worst_class_recall", "gap", "calibration_error")


def judge(
    data: Splits, chosen: Chosen, drawn: Sequence[Chosen], params: Judge, *, width: int, seed: int
) -> dict[str, Any]:
    """Train both architectures on the chosen set and on each random one, and on everything where that is little.

    drawn: a random set per seed, as large as the chosen one. width: of the networks.

    Returns:
        verdict, beats; gain: mean of accuracy(chosen) - accuracy(random) over seeds x architectures, both networks of a
        pair beginning with the same weights; half_width95: of its interval by Student's t. The pairs share the
        validation split and the chosen set, of whose own chance the interval knows nothing.
        sets: {set: {samples, trainings, and (mean, sd) of each of FIGURES}}; runs: one row per training.
    """
    steps = steps_of(len(data.train), params.epochs)
    sets = {"chosen": [samples_of(data, chosen)] * len(drawn), "random": [samples_of(data, one) for one in drawn]}
    if len(data.train) <= MOST_FULL:
        sets["full"] = [data.train]
    runs: list[dict[str, Any]] = []
    todo = [
        (name, samples, seed + place, architecture)
        for name, members in sets.items()
        for place, samples in enumerate(members)
        for architecture in ARCHITECTURES[data.card.kind]
    ]
    for name, samples, own_seed, architecture in tqdm(
        todo, "coreset: judging", leave=False, disable=not sys.stderr.isatty()
    ):
        model = student(data, samples, architecture, width=width, steps=steps, seed=own_seed)
        runs.append({"set": name, "model": architecture, "seed": own_seed, **measured(model, samples, data.validation)})
    accuracies = {name: np.array([run["accuracy"] for run in runs if run["set"] == name]) for name in sets}
    gain, half_width = interval(accuracies["chosen"] - accuracies["random"])
    return {
        "verdict": verdict(gain, half_width),
        "beats": gain > half_width,
        "gain": gain,
        "half_width95": half_width,
        "steps": steps,
        "sets": {
            name: {"samples": len(members[0]), **_summary([run for run in runs if run["set"] == name])}
            for name, members in sets.items()
        },
        "runs": runs,
    }


def steps_of(samples: int, epochs: int) -> int:
    """Of each training, for a training split of so many samples."""
    return min(max(epochs * (samples // BATCH), FEWEST_STEPS), MOST_STEPS)


def samples_of(data: Splits, chosen: Chosen) -> Samples:
    """The chosen part of the training split, weighted where the weights say anything."""
    weights = chosen.weights if chosen.weights.min() < chosen.weights.max() else None
    return Samples(data.train.x, data.train.y, data.train.indices[chosen.indices], weights)


def student(data: Splits, samples: Samples, architecture: str, *, width: int, steps: int, seed: int) -> Normalised:
    """A fresh network, trained on `samples` for `steps`; weights count as in every other training.

    Raises:
        ValueError: the loss is no longer finite.
    """
    model = network(data, architecture, width, seed, "coreset.judge").train()
    train = Train(batch_size=BATCH)
    optimizer = make_optimizer(model.parameters(), train)
    for step, positions in zip(range(steps), _batches(samples, seed), strict=False):
        loss = step_(model, optimizer, samples, positions, learning_rate(step, steps, train))
        if not bool(loss.isfinite()):
            raise ValueError(f"coreset.judge: the loss is {float(loss)} in step {step + 1}; set judge: null")
    return model.eval()


def measured(model: Normalised, samples: Samples, validation: Samples) -> dict[str, float]:
    """FIGURES: on the validation split; the gap is the accuracy on the training samples less the one there.

    The worst class is the one of the lowest recall among those that the validation split has.
    """
    answers, targets = logits(model, validation), validation.targets(slice(None)).numpy()
    right = answers.argmax(1).numpy() == targets
    present = np.bincount(targets) > 0
    recall = np.bincount(targets, right)[present] / np.bincount(targets)[present]
    seen = samples.first(LOOKED_AT, 0)
    learned = float((logits(model, seen).argmax(1) == seen.targets(slice(None))).float().mean())
    accuracy = float(right.mean())
    return {
        "accuracy": accuracy,
        "worst_class_recall": float(recall.min()),
        "gap": learned - accuracy,
        "calibration_error": calibration_error(answers.softmax(1), right),
    }


def calibration_error(probabilities: Tensor, right: npt.NDArray[np.bool_]) -> float:
    """Mean distance between the largest probability and the share of right answers, over BINS equal ranges of it.

    probabilities: (n, classes); right: (n,). Guo et al. 2017, arXiv:1706.04599.
    """
    confidence = probabilities.double().amax(1).numpy()
    place = np.minimum((confidence * BINS).astype(int), BINS - 1)
    apart = np.bincount(place, confidence, BINS) - np.bincount(place, right, BINS)
    return float(np.abs(apart).sum() / len(right))


def interval(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Mean, and half the width of its 95 % interval by Student's t: infinite for a single value."""
    if len(values) < 2:
        return float(values.mean()), float("inf")
    error = values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean()), float(t.ppf(0.975, len(values) - 1) * error)


def verdict(gain: float, half_width: float) -> str:
    """The sentence, in percentage points."""
    figure = f"{100 * gain:.2f} +/- {100 * half_width:.2f} pp"
    return f"beats random by {figure}" if gain > half_width else f"does not beat random ({figure})"


def _batches(samples: Samples, seed: int) -> Iterator[Indices]:
    """Epoch after epoch, without end."""
    epoch = 0
    while True:
        yield from shuffled(samples, BATCH, generator_of(seed, epoch))
        epoch += 1


def _summary(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    found = {key: np.array([run[key] for run in runs]) for key in FIGURES}
    return {"trainings": len(runs)} | {key: [float(v.mean()), float(v.std(ddof=1))] for key, v in found.items()}
