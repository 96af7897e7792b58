"""Whether bfloat16 trains this network faster here than float32: measured once, then kept."""

from __future__ import annotations

import time
from collections.abc import Callable
from copy import deepcopy
from functools import cache
from typing import Final

import torch
from torch import nn

from tasks.data.batches import Samples
from tasks.device import autocast, device, moved
from tasks.params import Train
from tasks.training.objective import target_loss
from tasks.training.scratch import Scratch

STEPS: Final = 6
GAIN: Final = 1.05  # less is noise, and costs precision for nothing
SIDE: Final = 256  # of the matrices by which a processor without bfloat16 is known
IMITATED: Final = 3  # times as long as float32; where it is computed in hardware, it takes less than float32


def faster_precision(model: nn.Module, samples: Samples, train: Train, scratch: Scratch | None) -> str:
    """float32 or bfloat16; a choice made before on this machine for the same shapes stands."""

    def measure() -> str:
        if imitates_bfloat16():
            return "float32"
        seconds = _seconds(model, samples, train)
        return "bfloat16" if seconds["float32"] > GAIN * seconds["bfloat16"] else "float32"

    shapes = [f"{name} {tuple(tensor.shape)}" for name, tensor in model.state_dict().items()]
    machine = f"{torch.backends.cpu.get_cpu_capability()} {device()} {torch.__version__}"
    name = " ".join(["precision", *shapes, str(samples.shape), str(train.batch_size), machine])
    return scratch.choice(name, measure) if scratch else measure()


@cache
def imitates_bfloat16() -> bool:
    """Whether this processor computes bfloat16 without hardware for it, many times as slowly; told by one product."""
    matrix = torch.ones(SIDE, SIDE, device=device())

    def product(precision: str) -> None:
        with autocast(precision, matrix.device):
            matrix @ matrix

    seconds = _shortest(product)
    return seconds["bfloat16"] > IMITATED * seconds["float32"]


def _seconds(model: nn.Module, samples: Samples, train: Train) -> dict[str, float]:
    """A training step of each precision."""
    target = device()
    copy = deepcopy(model).to(target).train()
    part = slice(0, min(train.batch_size, len(samples)))
    inputs, targets = moved(samples.inputs(part), target), samples.targets(part).to(target)

    def step(precision: str) -> None:
        with autocast(precision, target):
            logits = copy(inputs)
        target_loss(logits.float(), targets).backward()  # type: ignore[no-untyped-call]

    return _shortest(step)


def _shortest(work: Callable[[str], None]) -> dict[str, float]:
    """The seconds that it takes at least in each precision; they take turns."""
    taken: dict[str, list[float]] = {"float32": [], "bfloat16": []}
    for _ in range(STEPS):
        for precision, times in taken.items():
            start = time.perf_counter()
            work(precision)
            if device().type == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
    return {precision: min(times) for precision, times in taken.items()}
