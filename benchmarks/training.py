"""Our training loop against a bare PyTorch loop, and distillation against plain training; in turns, in one run.

python benchmarks/training.py
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from copy import deepcopy
from typing import Final

import fashion
import torch
from torch import nn
from torch.nn import functional as F

from tasks import checkpoint
from tasks.data.batches import Samples
from tasks.data.splits import Splits, moments
from tasks.device import autocast, device, moved
from tasks.measure.accuracy import accuracy
from tasks.measure.size import macs
from tasks.models.normalised import Normalised
from tasks.params import Clean, Factory, Train
from tasks.params.training import Dist
from tasks.training.loop import fit_
from tasks.training.objective import Objective
from tasks.training.optimizer import learning_rate, make_optimizer
from tasks.training.precision import imitates_bfloat16
from tasks.training.state import Lesson
from tasks.training.teachers import ask

ROUNDS: Final = 7
SAMPLES: Final = 10_240
TEACHER: Final = Factory(factory="tasks.models.resnet:ResNet", args={"widths": [16, 32, 64, 128]})
STUDENT: Final = Factory(factory="tasks.models.cnn:CNN", args={"channels": [16, 32, 64], "strides": [2, 2, 2]})
PRECISION: Final = "float32" if imitates_bfloat16() else "bfloat16"
TRAIN: Final = Train(epochs=1, batch_size=256, optimizer="sgd", lr=0.05, precision=PRECISION)


def bare(model: nn.Module, samples: Samples, validation: Samples, train: Train) -> None:
    """What one would write by hand: no hooks, no history, no files; the same batches, precision and evaluation."""
    target = device()
    model.to(target, memory_format=torch.channels_last).train()
    optimizer = make_optimizer(model.parameters(), train)
    inputs, targets = samples.inputs(slice(None)), samples.targets(slice(None))
    steps = len(inputs) // train.batch_size
    order = torch.randperm(len(inputs))
    for step in range(steps):
        part = order[step * train.batch_size : (step + 1) * train.batch_size]
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, train)
        with autocast(train.precision, target):
            logits = model(moved(inputs[part], target))
        loss = F.cross_entropy(logits.float(), targets[part].to(target))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    accuracy(model, validation, train.precision)


def in_turns(calls: dict[str, Callable[[], None]], rounds: int = ROUNDS) -> dict[str, list[float]]:
    """Seconds of each call, the calls taking turns."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def ratio(seconds: dict[str, list[float]], over: str, under: str) -> float:
    """Median of the ratios round by round: what slows the machine slows both."""
    return statistics.median(a / b for a, b in zip(seconds[over], seconds[under], strict=True))


def peak_flops(precision: str) -> float:
    """Of a large matrix product, per second."""
    size, kind = 2048, torch.bfloat16 if precision == "bfloat16" else torch.float32
    a, b = (torch.randn(size, size, device=device(), dtype=kind) for _ in range(2))
    times = in_turns({"product": lambda: (a @ b).sum().item()}, 10)["product"]
    return 2 * size**3 / min(times)


def main() -> None:
    """Print the table and write results/training.json."""
    splits = fashion.data()
    samples, validation = splits.train.first(SAMPLES, 0), splits.validation.first(1000, 0)

    def fresh(factory: Factory) -> Normalised:
        return checkpoint.build(factory, splits.card, moments(samples), 0, "model")

    network = fresh(TEACHER)
    loops = in_turns(
        {
            "ours": lambda: void(fit_(deepcopy(network), samples, validation, TRAIN, seed=0, series="bench")),
            "bare": lambda: bare(deepcopy(network), samples, validation, TRAIN),
        }
    )
    loop_ratio = ratio(loops, "bare", "ours")
    images = SAMPLES / min(loops["ours"])
    share = 6 * macs(network, splits.card.input_shape) * images / peak_flops(PRECISION)
    costs = distillation(fresh(STUDENT), network, splits, samples, validation)
    rows = [
        {
            "what": f"teacher, {PRECISION}, batch 256",
            "images_per_s": round(images),
            "bare": round(SAMPLES / min(loops["bare"])),
        },
        {"what": "student alone, float32", "images_per_s": round(SAMPLES / min(costs["alone"]))},
        {"what": "student, DIST from kept logits", "images_per_s": round(SAMPLES / min(costs["distilled"]))},
        {"what": "student, DIST from a live teacher", "images_per_s": round(SAMPLES / min(costs["live"]))},
    ]
    for row in rows:
        print(row)
    headline = {
        "loop_vs_bare_ratio": round(loop_ratio, 3),
        "distill_cost_ratio": round(ratio(costs, "distilled", "alone"), 3),
        "distill_live_cost_ratio": round(ratio(costs, "live", "alone"), 3),
        "peak_share": round(share, 3),
    }
    fashion.keep("training", [0], rows, headline)


def distillation(
    student: Normalised, teacher: Normalised, splits: Splits, samples: Samples, validation: Samples
) -> dict[str, list[float]]:
    """Seconds of an epoch alone, with kept logits, and with a teacher asked live."""
    train = Train(epochs=1, batch_size=256, augment=TRAIN.augment)
    objective = Objective((Dist(method="dist", temperature=2.0),), 1.0)
    kept = ask([teacher], samples, Clean(mode="clean"), objective, train, seed=0)

    def fit(lesson: Lesson | None) -> Callable[[], None]:
        return lambda: void(fit_(deepcopy(student), samples, validation, train, seed=0, series="bench", lesson=lesson))

    from tasks.params import Live

    live = ask([deepcopy(teacher)], samples, Live(mode="live"), objective, train, seed=0)
    calls = {"alone": fit(None), "distilled": fit(Lesson(objective, kept)), "live": fit(Lesson(objective, live))}
    return in_turns(calls)


def void(_: object) -> None:
    """A call whose answer nobody needs."""


if __name__ == "__main__":
    main()
