import json
from math import log
from typing import get_args

import pytest
import torch
from torch.nn import functional as F

from tasks import params
from tasks.params import Dkd, Kd
from tasks.params.training import At, Fitnet, Mse, Mutual, Rkd, Sp
from tasks.training.features import at, rkd, sp
from tasks.training.objective import Objective, Outputs

# METHODS.md, section 6
S = torch.tensor([[2.0, 1, 0, -1], [0, 3, -1, 1], [1, -2, 2, 0]])
T = torch.tensor([[3, 0.5, -0.5, -1], [0.5, 2.5, -1.5, 0], [0, -1, 3, 1]])
Y = torch.tensor([0, 1, 2])
# a peer learns too, and is never content with its own answers alone
SECTIONS = [section for section in get_args(get_args(params.Loss)[0]) if section is not Mutual]


def feature(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


STUDENT = Outputs(S, {"body": feature(3, 2, 4, 4), "neck": feature(3, 6)})
TEACHER = Outputs(T, {"body": feature(3, 5, 8, 8, seed=1), "neck": feature(3, 7, seed=1)})
HINTS = [Fitnet(method="fitnet", student=name, teacher=name) for name in ("body", "neck")]


def section(model):
    (method,) = get_args(model.model_fields["method"].annotation)
    return model(method=method, **{key: "body" for key in ("student", "teacher") if key in model.model_fields})


def test_objective_adds_up_the_weighted_losses_and_the_cross_entropy():
    total = Objective([Kd(method="kd", temperature=1.0, weight=0.9), Dkd(method="dkd", weight=2.0)], 0.1)
    expected = 0.1 * float(F.cross_entropy(S, Y)) + 0.9 * 0.117963 + 2 * 1.975578
    assert float(total(Outputs(S), Outputs(T), Y)) == pytest.approx(expected, abs=1e-5)


def test_objective_without_teacher_weight_is_the_cross_entropy_of_the_targets():
    uniform = Outputs(torch.zeros(3, 4))
    assert float(Objective([Kd(method="kd")], 1.0)(uniform, uniform, Y)) == pytest.approx(log(4))


def test_the_targets_are_smoothed_where_they_count():
    uniform = Outputs(S)
    smoothed = Objective([], 2.0)(uniform, uniform, Y, label_smoothing=0.3)
    torch.testing.assert_close(smoothed, 2 * F.cross_entropy(S, Y, label_smoothing=0.3))


@pytest.mark.parametrize(("epoch", "share"), [(0, 0.25), (2, 0.75), (3, 1.0), (9, 1.0)])
def test_a_warm_up_weighs_its_own_loss_by_the_epochs_begun(epoch, share):
    objective = Objective([Dkd(method="dkd", weight=2.0, warmup_epochs=4), Kd(method="kd", weight=1.0)], 0.0)
    expected = share * 2 * 1.975578 + 0.238688
    assert float(objective(STUDENT, TEACHER, Y, epoch=epoch)) == pytest.approx(expected, abs=1e-5)


def test_features_go_to_the_losses_that_name_them_and_logits_to_those_that_do_not():
    losses = [
        At(method="at", student="body", teacher="body", weight=2.0),
        Sp(method="sp", student="neck", teacher="body", weight=3.0),
        Rkd(method="rkd", distance=1.0, angle=2.0, weight=4.0),
    ]
    expected = 2 * at(STUDENT.features["body"], TEACHER.features["body"])
    expected += 3 * sp(STUDENT.features["neck"], TEACHER.features["body"]) + 4 * rkd(S, T, distance=1, angle=2)
    torch.testing.assert_close(Objective(losses, 0.0)(STUDENT, TEACHER, Y), expected)


@pytest.mark.parametrize("model", SECTIONS)
def test_every_loss_of_the_params_pulls_towards_the_teacher_and_is_content_there(model):
    objective = Objective([section(model)], 0.0)
    objective.prepare_(TEACHER, TEACHER, 0)
    assert abs(float(objective(TEACHER, TEACHER, Y))) < 1e-3
    objective.prepare_(STUDENT, TEACHER, 0)
    student = Outputs(S.clone().requires_grad_(), {"body": STUDENT.features["body"].clone().requires_grad_()})
    value = objective(student, TEACHER, Y)
    value.backward()
    pulled = student.features["body"] if objective.student_taps else student.logits
    assert value.shape == () and float(value.detach()) > 1e-3 and float(pulled.grad.abs().max()) > 1e-4


def test_probabilities_as_targets_mean_what_classes_do():
    objective = Objective([Dkd(method="dkd")], 0.5)
    certain = F.one_hot(Y, 4).float()
    torch.testing.assert_close(objective(STUDENT, TEACHER, certain), objective(STUDENT, TEACHER, Y))
    mixed = 0.7 * certain + 0.3 * certain.roll(1, 0)
    expected = 0.7 * F.cross_entropy(S, Y) + 0.3 * F.cross_entropy(S, Y.roll(1))
    torch.testing.assert_close(Objective([], 1.0)(STUDENT, TEACHER, mixed), expected)


def test_targets_without_weight_are_not_looked_at():
    """So that a regression, whose targets are no classes, can follow its teacher."""
    objective = Objective([Mse(method="mse")], 0.0)
    torch.testing.assert_close(objective(Outputs(S), Outputs(T), S[:, 0]), F.mse_loss(S, T))


def test_each_module_is_tapped_once_and_logits_need_no_tap():
    objective = Objective(
        [
            Kd(method="kd"),
            Fitnet(method="fitnet", student="b", teacher="x"),
            At(method="at", student="a", teacher="x"),
            Sp(method="sp", student="b", teacher="y"),
            Rkd(method="rkd"),
        ],
        0.1,
    )
    assert (objective.student_taps, objective.teacher_taps) == (("b", "a"), ("x", "y"))


def prepared(seed=0):
    objective = Objective(HINTS, 0.0)
    objective.prepare_(STUDENT, TEACHER, seed)
    return objective


def test_adapters_are_drawn_by_the_seed_and_leave_the_global_generator_alone():
    before = torch.get_rng_state()
    first, again, other = ([p.tolist() for p in prepared(seed).parameters()] for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert first == again != other


def test_preparing_again_starts_anew():
    objective = prepared(seed=1)
    objective.prepare_(STUDENT, TEACHER, 0)
    assert all(torch.equal(a, b) for a, b in zip(objective.parameters(), prepared(0).parameters(), strict=True))


def test_adapters_get_gradients():
    objective = prepared()
    objective(STUDENT, TEACHER, Y).backward()
    shapes = [tuple(parameter.shape) for parameter in objective.parameters()]
    assert shapes == [(5, 2, 1, 1), (5,), (7, 6), (7,)]
    assert all(parameter.grad.abs().max() > 1e-3 for parameter in objective.parameters())


def test_an_adapter_learns_a_teacher_that_is_linear_in_the_student():
    student = Outputs(S, {"body": feature(20, 3, 2, 2)})
    teacher = Outputs(T, {"body": F.conv2d(student.features["body"], feature(5, 3, 1, 1, seed=1), feature(5, seed=2))})
    objective = Objective([Fitnet(method="fitnet", student="body", teacher="body", weight=1.0)], 0.0)
    objective.prepare_(student, teacher, 0)
    optimizer = torch.optim.Adam(objective.parameters(), lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        value = objective(student, teacher, Y)
        value.backward()
        optimizer.step()
    assert float(value.detach()) < 1e-4


def test_equal_channels_and_losses_on_logits_bring_no_parameters():
    objective = Objective([HINTS[0], Kd(method="kd")], 0.1)
    objective.prepare_(TEACHER, TEACHER, 0)
    assert list(objective.parameters()) == []


def test_a_vector_is_compared_with_an_image_through_a_linear_adapter():
    objective = Objective([Fitnet(method="fitnet", student="body", teacher="neck", weight=1.0)], 0.0)
    objective.prepare_(STUDENT, TEACHER, 0)
    means = objective.adapters["0"](STUDENT.features["body"].mean((2, 3)))
    torch.testing.assert_close(objective(STUDENT, TEACHER, Y), F.mse_loss(means, TEACHER.features["neck"]))


def test_features_in_half_precision_are_compared_in_full():
    half = Outputs(S, {name: value.bfloat16() for name, value in STUDENT.features.items()})
    objective = Objective([*HINTS, At(method="at", student="body", teacher="body")], 0.0)
    objective.prepare_(half, TEACHER, 0)
    value = objective(half, TEACHER, Y)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, objective(STUDENT, TEACHER, Y), rtol=0.02, atol=0)


@pytest.mark.parametrize(
    ("losses", "student", "message"),
    [
        (HINTS, STUDENT, "fitnet: its adapter is not made yet; call prepare_"),
        (HINTS, Outputs(S), "fitnet: no output of the student's module 'body' was recorded; recorded: none"),
        ([Kd(method="kd")], Outputs(S[:, :3]), r"kd: the student's logits have shape \(3, 3\), the teacher's \(3, 4\)"),
    ],
)
def test_what_is_missing_is_named(losses, student, message):
    with pytest.raises(ValueError, match=message):
        Objective(losses, 0.1)(student, TEACHER, Y)


def test_the_description_tells_objectives_apart_and_is_the_same_for_the_same():
    kd = Kd(method="kd")
    texts = [
        Objective(losses, weight).describe()
        for losses, weight in [([kd], 0.1), ([kd], 0.2), ([kd, *HINTS], 0.1), ([Kd(method="kd", temperature=2.0)], 0.1)]
    ]
    assert len(set(texts)) == 4
    assert texts[0] == Objective((Kd(method="kd"),), 0.1).describe()
    assert json.loads(texts[0]) == {
        "losses": [{"method": "kd", "temperature": 4.0, "weight": 0.9}],
        "target_weight": 0.1,
    }
