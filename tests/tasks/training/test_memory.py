"""Too little memory is one line that says what to lower, wherever it was wanted."""

import pytest
import torch
from torch import nn
from toy import blobs, network

from tasks.params import Clean, Kd, Live, Train, Views
from tasks.training import teachers
from tasks.training.loop import fit_
from tasks.training.memory import enough_memory
from tasks.training.objective import Objective
from tasks.training.teachers import ask

DATA = blobs()
KINDS = ("python", "cuda", "allocator")


def no_memory(kind="allocator"):
    if kind == "allocator":
        torch.empty(10**16)
    raise {"python": MemoryError, "cuda": torch.OutOfMemoryError}[kind]("no")


class Greedy(nn.Module):
    """Wants more than there is in this forward pass: first come two samples, then a batch, then those to validate."""

    def __init__(self, number):
        super().__init__()
        self.inner, self.number, self.passes = network(), number, 0

    def forward(self, x):
        self.passes += 1
        return no_memory() if self.passes == self.number else self.inner(x)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_failure_is_one_line(kind):
    with pytest.raises(ValueError, match=r"^here: out of memory; lower it$"), enough_memory("here", "lower it"):
        no_memory(kind)


def test_other_failures_pass_as_they_are():
    with pytest.raises(RuntimeError, match=r"^shapes$"), enough_memory("here", "lower it"):
        raise RuntimeError("shapes")


@pytest.mark.parametrize(
    ("number", "precision", "message"),
    [
        (1, "float32", "toy, before its first step: out of memory; a smaller network would do"),
        (1, "auto", "toy: out of memory; lower train.batch_size, now 60"),
        (2, "float32", "toy: out of memory; lower train.batch_size, now 60"),
        (
            *(3, "float32"),
            "toy, on the validation samples: out of memory; train.precision: bfloat16 or a smaller network would do",
        ),
        (3, "bfloat16", "toy, on the validation samples: out of memory; a smaller network would do"),
    ],
)
def test_a_training_says_where_and_what_to_lower(number, precision, message, monkeypatch):
    monkeypatch.setattr("tasks.training.precision.imitates_bfloat16", lambda: False)  # so that auto tries a step
    with pytest.raises(ValueError, match=f"^{message}$"):
        fit_(Greedy(number), DATA, DATA, Train(epochs=1, batch_size=60, precision=precision), seed=0, series="toy")


@pytest.mark.parametrize(
    ("answers", "advice"),
    [
        (Clean(mode="clean"), "give answers: {mode: live}, which asks for train.batch_size samples at a time"),
        (Views(mode="views", count=3), "lower answers.count, or give answers: {mode: live}, which "),
    ],
)
def test_answers_to_all_samples_may_be_asked_by_the_batch_instead(answers, advice):
    message = f"^the teacher's answers to all samples, {teachers.BATCH} at a time: out of memory; {advice}"
    with pytest.raises(ValueError, match=message):
        ask([Greedy(1)], DATA, answers, Objective([Kd(method="kd")], 0.1), Train(), seed=0)


def test_a_live_teacher_that_does_not_fit_may_be_asked_beforehand(monkeypatch):
    monkeypatch.setattr(teachers, "LiveAnswers", lambda *_: no_memory())
    with pytest.raises(
        ValueError, match=r"^the live teacher: out of memory; answers: {mode: clean} asks it beforehand$"
    ):
        ask([network()], DATA, Live(mode="live"), Objective([Kd(method="kd")], 0.1), Train(), seed=0)
