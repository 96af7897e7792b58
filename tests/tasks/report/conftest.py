"""A run as evaluate would report it: ten digits, five variants, the pruned one failing a check."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

COSTS = {  # size_bytes, parameters, macs, latency_ms_p50, throughput_per_s
    "teacher": (704_812, 175_258, 11_212_800, 0.412, 9_840),
    "student_alone": (46_320, 11_178, 742_400, 0.071, 61_200),
    "student": (46_320, 11_178, 742_400, 0.070, 61_900),
    "pruned": (25_104, 5_874, 366_080, 0.052, 84_300),
    "quantized": (11_920, 5_874, 366_080, 0.038, 118_400),
}
CORRECT = {"teacher": 0.986, "student_alone": 0.961, "student": 0.981, "pruned": 0.964, "quantized": 0.975}
PARENTS = {"student_alone": None, "student": "teacher", "pruned": "student", "quantized": "pruned"}


def predictions(classes: int, samples: int, share_correct: float, seed: int) -> tuple[list[int], list[int]]:
    """Balanced truth, and guesses of which `share_correct` are right."""
    random = np.random.default_rng(seed)
    actual = np.arange(samples) % classes
    wrong = np.isin(np.arange(samples), random.permutation(samples)[: round(samples * (1 - share_correct))])
    predicted = np.where(wrong, (actual + random.integers(1, classes, samples)) % classes, actual)
    return actual.tolist(), predicted.tolist()


def class_figures(classes: int, actual: list[int], predicted: list[int]) -> dict[str, Any]:
    """What details.json says of one variant."""
    confusion = np.zeros((classes, classes), dtype=int)
    np.add.at(confusion, (actual, predicted), 1)
    right = confusion.diagonal()
    precision, recall = right / np.maximum(confusion.sum(0), 1), right / np.maximum(confusion.sum(1), 1)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-9)
    figures = {"confusion": confusion, "precision": precision, "recall": recall, "f1": f1, "support": confusion.sum(1)}
    return {name: values.tolist() for name, values in figures.items()}


def history(final: float, epochs: int) -> list[dict[str, float]]:
    """A training that approaches `final`."""
    rises = [(epoch, 1 - math.exp(-(epoch + 1) / (epochs / 5))) for epoch in range(epochs)]
    return [
        {
            "epoch": epoch + 1,
            "loss": 2.3 * (1 - rise) + 0.04,
            "accuracy": 0.1 + (final - 0.09) * rise,
            "validation_accuracy": 0.1 + (final - 0.1) * rise + 0.004 * math.sin(5 * epoch),
        }
        for epoch, rise in rises
    ]


def checks(drop: float, class_drop: float, size: int, latency: float) -> list[dict[str, Any]]:
    """Four checks against a budget of 2.5 pp, 10 pp, 40 kB and 0.2 ms."""
    limits = {"accuracy_drop": (drop, 0.025), "class_recall_drop": (class_drop, 0.1)}
    limits |= {"size_bytes": (size, 40_000), "latency_ms": (latency, 0.2)}
    return [
        {"name": name, "value": value, "limit": limit, "verdict": "pass" if value <= limit else "fail", "note": ""}
        for name, (value, limit) in limits.items()
    ]


def build_run(classes: list[str], samples: int = 360) -> tuple[dict[str, Any], dict[str, Any]]:
    """(summary, details) of a finished run."""
    variants: list[dict[str, Any]] = []
    per_variant: dict[str, dict[str, Any]] = {}
    last: tuple[list[int], list[int]] = ([], [])
    recalls: dict[str, list[float]] = {}
    for seed, (name, (size, parameters, macs, latency, throughput)) in enumerate(COSTS.items()):
        last = predictions(len(classes), samples, CORRECT[name], seed)
        figures = per_variant[name] = class_figures(len(classes), *last)
        recalls[name] = figures["recall"]
        falls = [before - after for before, after in zip(recalls["teacher"], figures["recall"], strict=True)]
        accuracy = sum(a == b for a, b in zip(*last, strict=True)) / samples
        drop = variants[0]["accuracy"] - accuracy if variants else 0.0
        upper = drop + 0.009 if variants else 0.0
        found = checks(upper, max(falls), size, latency) if variants else []
        gate = ("fail" if any(c["verdict"] == "fail" for c in found) else "pass") if variants else "reference"
        variants.append(
            {"name": name, "file": f"artifacts/{name}/model.onnx", "parent": PARENTS.get(name), "accuracy": accuracy}
            | {"accuracy_drop": drop, "accuracy_drop_upper95": upper, "f1_macro": sum(figures["f1"]) / len(classes)}
            | {f"{key}_macro": sum(figures[key]) / len(classes) for key in ("precision", "recall")}
            | {"worst_class": classes[falls.index(max(falls))], "worst_class_recall_drop": max(falls)}
            | {"agreement": 1.0 if not variants else 0.985 - abs(drop) / 2, "size_bytes": size}
            | {"packed_bytes": 14_210 if name == "pruned" else None, "parameters": parameters, "macs": macs}
            | {"latency_ms_p50": latency, "latency_ms_p95": latency * 1.3, "throughput_per_s": throughput}
            | {"gate": gate, "checks": found}
        )
    final = variants[-1]
    summary = {
        "reference": "teacher",
        "final": "quantized",
        "verdict": f"quantized is 59 times smaller and 11 times faster than the teacher; "
        f"it loses {final['accuracy_drop'] * 100:.2f} pp of accuracy, "
        f"at most {final['accuracy_drop_upper95'] * 100:.2f} pp (95 %).",
        "data": {"name": "digits", "sha256": "9f2c4a1b" * 8, "samples": 1797, "train": 1258, "validation": 179}
        | {"test": samples, "coreset": 629},
        "variants": variants,
        "eager_teacher": {"latency_ms_p50": 1.21, "latency_ms_p95": 1.44, "throughput_per_s": 5_120},
        "smallest_detectable_drop": 0.0083,
        "environment": {"python": "3.11.9", "torch": "2.12.0+cpu", "onnxruntime": "1.23.0", "cpu": "AMD EPYC 7763"}
        | {"cores": 2, "platform": "Linux-6.8-x86_64"},
        "seed": 0,
    }
    layers = ["conv1", "blocks.0.conv1", "blocks.0.conv2", "blocks.1.conv1", "blocks.1.conv2", "blocks.2.conv1"]
    details = {
        "classes": classes,
        "per_variant": per_variant,
        "predictions": {"actual": last[0], "predicted": last[1]},
        "histories": {
            "teacher": history(0.988, 20),
            "student_alone": history(0.962, 30),
            "student": history(0.982, 30),
        },
        "sensitivity": [
            {"layer": layer, "ratio": ratio, "accuracy": 0.98 - ratio**2 * 0.5 / (depth + 1), "loss": 0.1}
            for depth, layer in enumerate(layers)
            for ratio in (0.25, 0.5, 0.75)
        ],
        "coreset": {"method": "k_center", "samples": 629, "coverage_radius": 3.21},
    }
    return summary, details


@pytest.fixture
def run() -> tuple[dict[str, Any], dict[str, Any]]:
    """The ten digits."""
    return build_run([str(digit) for digit in range(10)])


@pytest.fixture
def make_run() -> Callable[..., tuple[dict[str, Any], dict[str, Any]]]:
    """Runs over other classes: names, then how many test samples."""
    return build_run
