"""The one training loop: teacher, student, recovery after pruning."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator, Mapping
from math import inf
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from tasks.data.augment import draw, generator_of, mixed
from tasks.data.batches import Indices, Samples, balanced, shuffled, steps_per_epoch
from tasks.device import autocast, device, moved
from tasks.measure.accuracy import score
from tasks.params import Train
from tasks.training.distributed import agreed, average_, average_buffers_, average_gradients_, join, part_of_batch
from tasks.training.memory import enough_memory
from tasks.training.objective import target_loss
from tasks.training.optimizer import learning_rate
from tasks.training.precision import faster_precision, imitates_bfloat16
from tasks.training.scratch import Scratch
from tasks.training.state import Epoch, Lesson, State, kept, restore_, start, student_taps, training_key

log = logging.getLogger(__name__)

# averaging every step would cost as much as the step itself on a small model
EMA_EVERY = 5


def fit_(
    model: nn.Module,
    samples: Samples,
    validation: Samples,
    train: Train,
    *,
    seed: int,
    series: str,
    lesson: Lesson | None = None,
    keep: Mapping[str, Tensor] | None = None,
    scratch: Scratch | None = None,
    quiet: bool = False,
) -> list[Epoch]:
    """Train `model` in place and leave it in eval mode on the CPU.

    lesson: towards a teacher; None trains on the targets alone. train.label_smoothing is of the targets in both.
    keep: masks by parameter name, True where a weight is kept; the others stay zero.
    series: names this training in logs and curves.
    scratch: where it is kept after each epoch, and taken up again.
    quiet: epochs are not logged, as of one of many trainings.

    Raises:
        ValueError: the loss or a weight is no longer finite, or the memory does not suffice.
    """
    if not len(samples):
        raise ValueError(f"{series}: no training samples")
    first = samples.targets(slice(0, 1))
    numbers = first.ndim == 1 and first.is_floating_point()
    if numbers and (train.balance or train.augment.mixup or train.augment.cutmix):
        raise ValueError(f"{series}: the targets are numbers; balance, mixup and cutmix are for classes")
    join()
    samples = balanced(samples) if train.balance else samples
    smaller_batch = f"lower train.batch_size, now {train.batch_size}"
    with torch.random.fork_rng():
        with enough_memory(series, smaller_batch):
            chosen = _with_precision(model, samples, train, series, scratch)
        if chosen != train and not quiet:
            log.info("%s: trained in %s, the faster precision here", series, chosen.precision)
        train = chosen
        key = training_key(model, samples, validation, train, seed, lesson, keep) if scratch else ""
        with enough_memory(f"{series}, before its first step", "a smaller network would do"):
            state = start(model, samples, train, seed, lesson)
            if scratch and (found := scratch.load(series, key)):
                restore_(state, found)
        run = _runner(model, train, series, lesson)
        started, done = time.monotonic(), state.epoch
        while not state.ended(train):
            with enough_memory(series, smaller_batch):
                loss = _epoch_(state, run, samples, train, seed, series, keep)
            with enough_memory(f"{series}, on the validation samples", _lighter(train)):
                _judge_(state, validation, train, loss, series)
            if not quiet:
                _report(state, train, (time.monotonic() - started) / (state.epoch - done))
            if scratch:
                scratch.save(series, key, kept(state))
    if state.best:
        model.load_state_dict(state.best)
    elif state.average and state.average.updates:
        state.average.swap_()
    model.to("cpu", memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]
    return state.history


def _with_precision(model: nn.Module, samples: Samples, train: Train, series: str, scratch: Scratch | None) -> Train:
    """The faster precision where the clock is to choose; a warning where the one asked for would take for ever."""
    if train.precision == "bfloat16" and imitates_bfloat16():
        log.warning(
            "%s: this processor only imitates bfloat16, which takes many times as long as float32; "
            "set train.precision to float32, or to auto",
            series,
        )
    if train.precision != "auto":
        return train
    precision = agreed(faster_precision(model, samples, train, scratch))
    return train.model_copy(update={"precision": precision})


def _runner(model: nn.Module, train: Train, series: str, lesson: Lesson | None) -> Any:
    """The model, compiled where that is asked for and nobody looks inside."""
    if train.compile and lesson and lesson.objective.student_taps:
        log.warning("%s: not compiled, as a loss reads its module '%s'", series, lesson.objective.student_taps[0])
        return model
    return torch.compile(model) if train.compile else model


def _lighter(train: Train) -> str:
    """What would make a forward pass need less, whatever the batch."""
    half = "" if train.precision == "bfloat16" else "train.precision: bfloat16 or "
    return f"{half}a smaller network would do"


def _epoch_(
    state: State,
    run: Any,
    samples: Samples,
    train: Train,
    seed: int,
    series: str,
    keep: Mapping[str, Tensor] | None,
) -> float:
    """One pass over the samples; returns the mean loss."""
    epoch, steps = state.epoch, steps_per_epoch(samples, train.batch_size)
    generator = generator_of(seed, epoch)
    torch.manual_seed(generator.initial_seed())  # dropout draws from the global generator
    state.model.train()
    losses = []
    for step, (inputs, targets, positions) in enumerate(_batches(state, samples, train, generator, series)):
        for group in state.optimizer.param_groups:
            group["lr"] = learning_rate(epoch * steps + step, train.epochs * steps, train)
        value = _loss(state, run, inputs, targets, positions, train)
        state.optimizer.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]
        average_gradients_(state.optimizer)
        if train.clip_norm:
            nn.utils.clip_grad_norm_(state.model.parameters(), train.clip_norm)
        state.optimizer.step()
        _apply_(state.model, keep)
        if state.average and ((epoch * steps + step + 1) % EMA_EVERY == 0 or steps * train.epochs < EMA_EVERY):
            state.average.update()
        losses.append(value.detach())
    average_buffers_(state.model, state.average)
    found = torch.stack(losses)
    average_([found])
    _refuse_infinite(state, found, train, series)
    return float(found.mean())


def _refuse_infinite(state: State, losses: Tensor, train: Train, series: str) -> None:
    """Raise ValueError where the epoch left no number in a batch's loss, or in what it trained."""
    trained = (p for group in state.optimizer.param_groups for p in group["params"])
    what, batch = "", len(losses)
    if not bool(losses.isfinite().all()):
        first = int((~losses.isfinite()).nonzero()[0, 0])
        what, batch = f"the loss is {float(losses[first])} in", first + 1
    # a loss that is a number can have a gradient that is not, and after the last batch no loss shows it
    elif not all(bool(p.isfinite().all()) for p in trained):
        what = "a weight is not finite after"
    if what:
        raise ValueError(
            f"{series}: {what} epoch {state.epoch + 1}, batch {batch} of {len(losses)}; "
            f"lower train.lr, now {train.lr:g}, or set train.clip_norm"
        )


def _batches(
    state: State, samples: Samples, train: Train, generator: torch.Generator, series: str
) -> Iterator[tuple[Tensor, Tensor, Indices]]:
    """(inputs, targets, positions) of one epoch, augmented, on the device."""
    target = device()
    view = state.lesson.teacher.view(state.epoch) if state.lesson else None
    view = view or draw(len(samples), samples.shape, train.augment, generator)
    mixes = train.augment.mixup or train.augment.cutmix
    steps = steps_per_epoch(samples, train.batch_size)
    order = shuffled(samples, train.batch_size, generator)
    for whole in tqdm(order, _title(state, train, series), steps, leave=False, disable=not sys.stderr.isatty()):
        positions = part_of_batch(whole)
        inputs, targets = view.of(samples.inputs(positions), positions), samples.targets(positions)
        if mixes:
            soft = targets if targets.ndim == 2 else F.one_hot(targets, state.classes).float()
            inputs, targets = mixed(inputs, soft, train.augment, generator)
        yield moved(inputs, target), targets.to(target), positions


def _title(state: State, train: Train, series: str) -> str:
    """Of the progress bar, which itself says how much time is left: the epoch, and what the last one came to."""
    title = f"{series} {state.epoch + 1}/{train.epochs}"
    if not state.history:
        return title
    last = state.history[-1]
    return f"{title}, loss {last.loss:.3f}, validation {last.validation_accuracy:.3f}"


def _loss(state: State, run: Any, inputs: Tensor, targets: Tensor, positions: Indices, train: Train) -> Tensor:
    target = inputs.device
    if state.lesson is None:
        with autocast(train.precision, target):
            logits = run(inputs)
        return target_loss(logits.float(), targets, train.label_smoothing)
    with student_taps(state.model, state.lesson) as taps:
        with autocast(train.precision, target):
            logits = run(inputs)
        student = taps.outputs(logits)
    with autocast(train.precision, target):
        teacher = state.lesson.teacher(positions, inputs)
    loss: Tensor = state.lesson.objective(
        student, teacher, targets, label_smoothing=train.label_smoothing, epoch=state.epoch
    )
    return loss


def _judge_(state: State, validation: Samples, train: Train, loss: float, series: str) -> None:
    """Measure the epoch that just ended, and keep the weights if they are the best so far."""
    if state.average and state.average.updates:
        state.average.swap_()
    right = score(state.model, validation, train.precision)
    seen = [done.validation_accuracy for done in state.history]
    if train.patience and right > max(seen, default=-inf):
        state.best = {name: tensor.detach().clone() for name, tensor in state.model.state_dict().items()}
    if state.average and state.average.updates:
        state.average.swap_()
    lr = float(state.optimizer.param_groups[0]["lr"])
    state.history.append(Epoch(series, state.epoch + 1, loss, lr, right))


def _report(state: State, train: Train, seconds: float) -> None:
    """Log the epoch that just ended, for people and for MLflow."""
    last = state.history[-1]
    log.info(
        "%s: epoch %d/%d, loss %.4f, validation accuracy %.4f, %s left",
        *(last.series, last.epoch, train.epochs, last.loss, last.validation_accuracy),
        _duration(seconds * (train.epochs - last.epoch)),
        extra={
            "metrics": {"loss": last.loss, "lr": last.lr, "validation_accuracy": last.validation_accuracy},
            "step": last.epoch,
            "series": last.series,
        },
    )


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def _apply_(model: nn.Module, keep: Mapping[str, Tensor] | None) -> None:
    if keep:
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name in keep:
                    parameter.mul_(keep[name].to(parameter.device))
