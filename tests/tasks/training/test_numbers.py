"""The same loop where the targets are numbers: squared error, and the share of variance explained."""

import numpy as np
import pytest
import torch
from toy import network

from tasks.data.batches import Samples
from tasks.measure.accuracy import score
from tasks.models.mlp import MLP
from tasks.params import Augment, Clean, Train
from tasks.params.training import Mse
from tasks.training.loop import fit_
from tasks.training.objective import Objective, target_loss
from tasks.training.state import Lesson
from tasks.training.teachers import ask


def planes(count=120):
    """y is linear in x."""
    x = np.random.default_rng(0).standard_normal((count, 4)).astype(np.float32)
    return Samples(x, (x @ np.float32([1, -2, 3, 0.5])).astype(np.float32), np.arange(count))


def regressor(seed=0):
    torch.manual_seed(seed)
    return MLP((4,), 1, hidden=(16,))


def test_training_explains_the_variance():
    model = regressor()
    history = fit_(model, planes(), planes(), Train(epochs=40, batch_size=20), seed=0, series="toy")
    assert history[-1].validation_accuracy == score(model, planes()) > 0.9
    assert history[-1].loss < 0.2 * history[0].loss


def test_the_mean_explains_nothing():
    class Mean(torch.nn.Module):
        def forward(self, x):
            return torch.full((len(x), 1), float(planes().y.mean()))

    assert score(Mean(), planes()) == pytest.approx(0, abs=1e-6)


def test_a_student_learns_from_its_teacher_s_numbers_without_targets():
    teacher, student = regressor(), regressor(1)
    fit_(teacher, planes(), planes(), Train(epochs=40, batch_size=20), seed=0, series="teacher")
    objective, train = Objective((Mse(method="mse"),), 0.0), Train(epochs=40, batch_size=20)
    answers = ask([teacher], planes(), Clean(mode="clean"), objective, train, seed=0)
    fit_(student, planes(), planes(), train, seed=0, series="student", lesson=Lesson(objective, answers))
    assert score(student, planes()) > 0.9


def test_squared_error_by_hand_and_one_output_only():
    assert float(target_loss(torch.tensor([[1.0], [3.0]]), torch.tensor([0.0, 1.0]))) == 2.5
    with pytest.raises(ValueError, match="the model gives 3 outputs, it must give one"):
        fit_(network(), planes(), planes(), Train(epochs=1), seed=0, series="toy")


@pytest.mark.parametrize("knobs", [{"balance": True}, {"augment": Augment(mixup=1.0)}])
def test_what_is_for_classes_is_refused(knobs):
    with pytest.raises(ValueError, match="toy: the targets are numbers; balance, mixup and cutmix are for classes"):
        fit_(regressor(), planes(), planes(), Train(**knobs), seed=0, series="toy")
