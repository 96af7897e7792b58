"""What a teacher says to a batch: read from what was kept on disk, or asked as the student sees it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tasks.data.augment import View, draw, generator_of
from tasks.data.batches import Indices, Samples
from tasks.device import device, moved
from tasks.params import Answers, Augment, Train, Views
from tasks.params.training import refuse_unkept
from tasks.training.losses import PEER_LOSSES
from tasks.training.memory import enough_memory
from tasks.training.objective import Objective, Outputs
from tasks.training.scratch import Scratch, hashed, network_hash
from tasks.training.taps import Taps

BATCH: Final = 1000
FILES_KEPT: Final = 8

Logits = npt.NDArray[np.float16] | npt.NDArray[np.float32]


class TeacherAnswers(Protocol):
    """A teacher, as the training loop asks it, in the student's precision.

    identity: the same for the same answers only.
    network: what learns along with the student, for a peer; None for a teacher.
    """

    identity: str
    network: nn.Module | None

    def view(self, epoch: int) -> View | None:
        """How the samples must look in this epoch; None: as the student likes."""
        ...

    def __call__(self, positions: Indices, inputs: Tensor) -> Outputs:
        """The answers to the samples at these positions, in the view that was asked for last; no gradients."""
        ...


@dataclass
class KeptAnswers:
    """logits: (views, n, classes), perhaps memory-mapped; views: empty where they are of the clean samples."""

    logits: Logits
    views: Sequence[View] = ()
    identity: str = ""
    network: nn.Module | None = None
    current: int = field(default=0, init=False)

    def view(self, epoch: int) -> View | None:
        """The views take turns."""
        self.current = epoch % len(self.logits)
        return self.views[self.current] if self.views else None

    def __call__(self, positions: Indices, inputs: Tensor) -> Outputs:
        """Read, not computed."""
        rows = torch.from_numpy(self.logits[self.current][positions].astype(np.float32))
        return Outputs(rows.to(inputs.device))


class LiveAnswers:
    """The mean of the teachers' logits, and the features of the first, for the very inputs of the student."""

    def __init__(self, teachers: Sequence[nn.Module], taps: Sequence[str]) -> None:
        self.teachers = [teacher.to(device()).eval() for teacher in teachers]
        self.taps = Taps(self.teachers[0], taps, "distill.losses: the teacher")
        self.identity = " ".join(["live", *map(network_hash, teachers)])
        self.network: nn.Module | None = None

    def view(self, epoch: int) -> View | None:
        """Any."""
        return None

    @torch.no_grad()
    def __call__(self, positions: Indices, inputs: Tensor) -> Outputs:
        """Asked now."""
        with self.taps:
            first = self.taps.outputs(self.teachers[0](inputs))
            logits = [first.logits, *(teacher(inputs).float() for teacher in self.teachers[1:])]
        return Outputs(torch.stack(logits).mean(0), first.features)


class PeerAnswers:
    """A second student, which the loss `mutual` trains along with the first."""

    def __init__(self, peer: nn.Module) -> None:
        # torch's stubs do not know that a module can change its layout
        self.network: nn.Module | None = peer.to(device(), memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.peer = peer
        self.identity = f"peer {network_hash(peer)}"

    def view(self, epoch: int) -> View | None:
        """Any."""
        return None

    def __call__(self, positions: Indices, inputs: Tensor) -> Outputs:
        """With gradients, where the student has them."""
        self.peer.train(torch.is_grad_enabled())
        return Outputs(self.peer(inputs).float())


def ask(
    teachers: Sequence[nn.Module],
    samples: Samples,
    answers: Answers,
    objective: Objective,
    train: Train,
    *,
    seed: int,
    scratch: Scratch | None = None,
) -> TeacherAnswers:
    """Make the teachers' answers available, as `answers` says.

    seed: of the views. scratch: where answers are kept between runs and stages; None keeps them in memory.

    Raises:
        ValueError: what is asked for cannot be kept on disk, an answer is not finite, or the memory does not suffice.
    """
    augment = train.augment
    if any(loss.method in PEER_LOSSES for loss in objective.losses):
        raise ValueError("mutual learns with a peer, not from a teacher; name it alone, and in distill.losses only")
    if answers.mode == "live":
        with enough_memory("the live teacher", "answers: {mode: clean} asks it beforehand"):
            return LiveAnswers(teachers, objective.teacher_taps)
    refuse_unkept(objective.losses, answers, augment)
    views = _views(samples, answers, augment, seed) if isinstance(answers, Views) else []
    drawn = f"{answers.model_dump_json()} {augment.model_dump_json()} {seed}" if views else "clean"
    facts = [text.encode() for text in (*map(network_hash, teachers), drawn)]
    identity = hashed([*facts, samples.identity()])
    if scratch is None:
        return KeptAnswers(_computed(teachers, samples, views), views, identity)
    path = scratch.answers / f"{scratch.key(identity)}.npy"
    if not path.is_file():
        _keep(path, _computed(teachers, samples, views))
    path.touch()  # the latest used are kept
    for old in sorted(scratch.answers.iterdir(), key=_last_used)[:-FILES_KEPT]:
        old.unlink(missing_ok=True)
    return KeptAnswers(np.load(path, mmap_mode="r", allow_pickle=False), views, identity)


def _last_used(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # another process was faster
        return 0.0


def _views(samples: Samples, answers: Views, augment: Augment, seed: int) -> list[View]:
    return [draw(len(samples), samples.shape, augment, generator_of(seed, stream)) for stream in range(answers.count)]


@torch.no_grad()
def _computed(teachers: Sequence[nn.Module], samples: Samples, views: Sequence[View]) -> Logits:
    """(views or 1, n, classes): each teacher's logits, averaged; in float16, or float32 where one is out of its range.

    Raises:
        ValueError: an answer is not finite, or the memory does not suffice.
    """
    fewer = "lower answers.count, or " if len(views) > 1 else ""
    live = "give answers: {mode: live}, which asks for train.batch_size samples at a time"
    with enough_memory(f"the teacher's answers to all samples, {BATCH} at a time", fewer + live):
        logits = torch.stack([_answers(teachers, samples, view) for view in views or (None,)])
        for teacher in teachers:
            teacher.to("cpu")
        lowest, highest = map(float, logits.aminmax())
        if not (isfinite(lowest) and isfinite(highest)):
            raise ValueError(
                "the teacher's answers are not all finite; train it with a lower train.lr, or name another"
            )
        fits = max(-lowest, highest) <= torch.finfo(torch.float16).max
        return (logits.half() if fits else logits).numpy()


def _answers(teachers: Sequence[nn.Module], samples: Samples, view: View | None) -> Tensor:
    """(n, classes): to the samples as the view shows them."""
    target = device()
    blocks = []
    for start in range(0, len(samples), BATCH):
        part = slice(start, start + BATCH)
        inputs = samples.inputs(part)
        inputs = moved(view.of(inputs, part) if view else inputs, target)
        logits = [teacher.to(target).eval()(inputs).float() for teacher in teachers]
        blocks.append(torch.stack(logits).mean(0).cpu())
    return torch.cat(blocks)


def _keep(path: Path, logits: Logits) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            np.save(file, logits)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
