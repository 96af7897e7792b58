import numpy as np
import pytest
import torch
from toy import blobs, card, pictures

from tasks.coreset.exam import Exam, examined, make_exam, worst_slice
from tasks.data.batches import Samples
from tasks.data.corruptions import applicable
from tasks.data.splits import Splits

X = np.zeros((8, 2), np.float32)


def parts(samples):
    half = len(samples) // 2
    train, validation = (Samples(samples.x, samples.y, np.arange(*ends)) for ends in ((0, half), (half, len(samples))))
    return Splits(card(samples.shape), train, validation, validation, train)


def zero(bias):
    """A network that answers the same to everything."""
    model = torch.nn.Linear(2, len(bias))
    with torch.no_grad():
        model.weight.zero_()
        model.bias.copy_(torch.tensor(bias))
    return model


def test_figures_by_hand():
    """Class 0 is always the answer; validation has no class 2."""
    train = Samples(X, np.array([0, 0, 0, 1, 0, 0, 0, 1]), np.arange(4))
    validation = Samples(X, np.array([0] * 6 + [1, 1]), np.arange(4, 8))
    found, right = examined(zero([9.0, 0, 0]), train, Exam(validation, {}, validation, {"jitter": validation}))
    assert right.tolist() == [True, True, False, False]
    assert found["accuracy"] == 0.5 and found["worst_class_recall"] == 0 and found["gap"] == 0.25
    assert found["calibration_error"] == pytest.approx(0.5, abs=1e-3) and found["jitter_drop"] == 0
    assert "worst_slice_accuracy" not in found


def test_a_drop_is_what_the_corrupted_samples_cost():
    """The answer is the sign of the first feature, which half of the corrupted ones have lost."""
    model = torch.nn.Linear(2, 2)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, 0], [-1, 0]]))
        model.bias.zero_()
    x = np.array([[1, 0], [1, 0], [-1, 0], [-1, 0]], np.float32)
    clean = Samples(x, np.array([0, 0, 1, 1]), np.arange(4))
    turned = Samples(x * np.array([[1], [-1], [1], [-1]], np.float32), clean.y, np.arange(4))
    found, _ = examined(model, clean, Exam(clean, {}, clean, {"noise": turned, "blur": clean}))
    assert found["accuracy"] == 1 and found["noise_drop"] == 0.5 and found["corruption_drop"] == 0.25


def test_the_worst_slice_is_the_lowest_of_all_columns_with_enough_samples():
    right = np.repeat([True, False, False], [60, 30, 10])
    day = np.repeat(["day", "night", "dusk"], [50, 40, 10])  # 1, 1/4, and too few
    site = np.repeat(["a", "b"], 50)  # 1, 1/5
    assert worst_slice(right, {"day": day}) == {"worst_slice_accuracy": 0.25}
    assert worst_slice(right, {"day": day, "site": site}) == {"worst_slice_accuracy": 0.2}
    assert worst_slice(right, {"id": np.arange(100).astype(str)}) == {}


@pytest.mark.parametrize("samples", [pictures(), blobs()])
def test_every_corruption_of_the_kind_is_asked_about_with_the_same_targets_and_seeded(samples):
    data = parts(samples)
    exam, again, other = (make_exam(data, {}, seed) for seed in (0, 0, 1))
    assert tuple(exam.corrupted) == applicable(data.card) and len(exam.validation) == len(samples) // 2
    for name, found in exam.corrupted.items():
        assert found.y.tolist() == data.validation.targets(slice(None)).tolist()
        assert found.x.tobytes() == again.corrupted[name].x.tobytes()
        assert np.abs(found.x - exam.clean.inputs(slice(None)).numpy()).max() > 0
    assert exam.corrupted.keys() == other.corrupted.keys()
