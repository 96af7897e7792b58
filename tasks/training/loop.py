"""The one training loop: teacher, student, recovery after pruning."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from tasks.data.batches import Samples, augmented, shuffled, steps_per_epoch
from tasks.device import autocast, device, moved
from tasks.measure.accuracy import accuracy
from tasks.params import Train
from tasks.training.losses import DistillationLoss

log = logging.getLogger(__name__)

# averaging every step would cost as much as the step itself on a small model
EMA_EVERY = 5


@dataclass(frozen=True)
class Epoch:
    """What one epoch came to: mean training loss, its learning rate at the end, accuracy on the validation split."""

    series: str
    epoch: int
    loss: float
    lr: float
    validation_accuracy: float


def fit_(
    model: nn.Module,
    samples: Samples,
    validation: Samples,
    train: Train,
    *,
    seed: int,
    series: str,
    loss: DistillationLoss | None = None,
    keep: Mapping[str, Tensor] | None = None,
) -> list[Epoch]:
    """Train `model` in place and leave it in eval mode on the CPU.

    loss: towards samples.teacher_logits; None trains on the targets alone with train.label_smoothing.
    keep: masks by parameter name, True where a weight is kept; the others stay zero.
    series: names this training in logs and curves.

    Raises:
        ValueError: the loss is no longer finite.
    """
    if not len(samples):
        raise ValueError(f"{series}: no training samples")
    target = device()
    # torch's stubs do not know that a module can change its layout
    model.to(target, memory_format=torch.channels_last)  # type: ignore[call-overload]
    total = train.epochs * steps_per_epoch(samples, train.batch_size)
    optimizer = _optimizer(model, train)
    average = _Average(model, train.ema) if train.ema else None
    generator = torch.Generator().manual_seed(seed)
    history: list[Epoch] = []
    step = 0
    with torch.random.fork_rng():
        torch.manual_seed(seed)  # dropout draws from the global generator
        for epoch in range(1, train.epochs + 1):
            model.train()
            losses = []
            for positions in _progress(samples, train, generator, f"{series} {epoch}/{train.epochs}"):
                for group in optimizer.param_groups:
                    group["lr"] = _learning_rate(step, total, train)
                inputs = augmented(samples.inputs(positions), train.augment, generator)
                with autocast(train.precision, target):
                    logits = model(moved(inputs, target))
                value = _loss(logits.float(), samples, positions, loss, train.label_smoothing)
                optimizer.zero_grad(set_to_none=True)
                value.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                _apply_(model, keep)
                step += 1
                if average and step % EMA_EVERY == 0:
                    average.update()
                losses.append(value.detach())
            history.append(_epoch(model, average, validation, train, series, epoch, losses, optimizer))
    if average:
        average.store_()
    model.to("cpu", memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]
    return history


def _loss(
    logits: Tensor, samples: Samples, positions: object, loss: DistillationLoss | None, label_smoothing: float
) -> Tensor:
    targets = samples.targets(positions).to(logits.device)  # type: ignore[arg-type]
    if loss is None:
        return F.cross_entropy(logits, targets, label_smoothing=label_smoothing)
    if samples.teacher_logits is None:
        raise ValueError("a distillation loss needs the teacher's logits")
    return loss(logits, samples.teacher_logits[positions].to(logits.device), targets)  # type: ignore[index]


def _epoch(
    model: nn.Module,
    average: _Average | None,
    validation: Samples,
    train: Train,
    series: str,
    epoch: int,
    losses: list[Tensor],
    optimizer: torch.optim.Optimizer,
) -> Epoch:
    """Measure and log the epoch that just ended."""
    mean = float(torch.stack(losses).mean())
    lr = float(optimizer.param_groups[0]["lr"])
    if mean != mean or mean in (float("inf"), float("-inf")):
        raise ValueError(f"{series}: the loss is {mean} in epoch {epoch} (lr {lr:.3g}); lower train.lr, now {train.lr}")
    if average:
        average.swap_()
    right = accuracy(model, validation, train.precision)
    if average:
        average.swap_()
    done = Epoch(series, epoch, mean, lr, right)
    log.info(
        "%s: epoch %d/%d, loss %.4f, validation accuracy %.4f",
        *(series, epoch, train.epochs, mean, right),
        extra={"metrics": {"loss": mean, "lr": lr, "validation_accuracy": right}, "step": epoch, "series": series},
    )
    return done


def _optimizer(model: nn.Module, train: Train) -> torch.optim.Optimizer:
    """Weight decay on weights only: not on biases, not on BatchNorm's scale and shift."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": train.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if train.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=train.lr, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(groups, lr=train.lr)


def _learning_rate(step: int, total: int, train: Train) -> float:
    """Linear up over the first `warmup` of the steps, linear down to zero over the rest."""
    peak = train.warmup * total
    rising, falling = (step + 1) / peak if peak else 1.0, (total - step) / (total - peak)
    return train.lr * min(rising, falling, 1.0)  # both exceed 1 on the step at the peak


def _progress(samples: Samples, train: Train, generator: torch.Generator, title: str) -> tqdm[object]:
    return tqdm(
        shuffled(samples, train.batch_size, generator),
        title,
        steps_per_epoch(samples, train.batch_size),
        leave=False,
        disable=not sys.stderr.isatty(),
    )


def _apply_(model: nn.Module, keep: Mapping[str, Tensor] | None) -> None:
    if keep:
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name in keep:
                    parameter.mul_(keep[name].to(parameter.device))


class _Average:
    """Exponential moving average of all floating-point state, BatchNorm's statistics included."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.live = [t for t in model.state_dict(keep_vars=True).values() if t.is_floating_point()]
        self.mean = [t.detach().clone() for t in self.live]
        self.decay = decay

    @torch.no_grad()
    def update(self) -> None:
        for mean, live in zip(self.mean, self.live, strict=True):
            mean.lerp_(live, 1 - self.decay)

    @torch.no_grad()
    def swap_(self) -> None:
        for mean, live in zip(self.mean, self.live, strict=True):
            held = live.detach().clone()
            live.copy_(mean)
            mean.copy_(held)

    @torch.no_grad()
    def store_(self) -> None:
        for mean, live in zip(self.mean, self.live, strict=True):
            live.copy_(mean)
