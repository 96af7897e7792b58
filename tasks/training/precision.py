"""Whether bfloat16 trains this network faster here than float32: measured once, then kept."""

from __future__ import annotations

import time
from copy import deepcopy
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
FEW: Final = 8  # samples, enough to see that a processor lacks bfloat16, too few to wait for
LACKING: Final = 3  # times as long on so few; on a whole batch it is far more


def faster_precision(model: nn.Module, samples: Samples, train: Train, scratch: Scratch | None) -> str:
    """float32 or bfloat16; a choice made before on this machine for the same shapes stands."""

    def measure() -> str:
        if lacks_bfloat16(model, samples):
            return "float32"
        seconds = _seconds(model, samples, train.batch_size)
        return "bfloat16" if seconds["float32"] > GAIN * seconds["bfloat16"] else "float32"

    shapes = [f"{name} {tuple(tensor.shape)}" for name, tensor in model.state_dict().items()]
    machine = f"{torch.backends.cpu.get_cpu_capability()} {device()} {torch.__version__}"
    name = " ".join(["precision", *shapes, str(samples.shape), str(train.batch_size), machine])
    return scratch.choice(name, measure) if scratch else measure()


def lacks_bfloat16(model: nn.Module, samples: Samples) -> bool:
    """Whether the processor only imitates bfloat16, so that a training would take for ever."""
    seconds = _seconds(model, samples, FEW)
    return seconds["bfloat16"] > LACKING * seconds["float32"]


def _seconds(model: nn.Module, samples: Samples, batch_size: int) -> dict[str, float]:
    """The shortest step of each precision; they take turns."""
    target = device()
    copy = deepcopy(model).to(target).train()
    part = slice(0, min(batch_size, len(samples)))
    inputs, targets = moved(samples.inputs(part), target), samples.targets(part).to(target)
    taken: dict[str, list[float]] = {"float32": [], "bfloat16": []}
    for _ in range(STEPS):
        for precision, times in taken.items():
            start = time.perf_counter()
            with autocast(precision, target):
                logits = copy(inputs)
            target_loss(logits.float(), targets).backward()  # type: ignore[no-untyped-call]
            if target.type == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
    return {precision: min(times) for precision, times in taken.items()}
