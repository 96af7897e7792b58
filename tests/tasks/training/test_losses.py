from math import log

import pytest
import torch
from torch.nn import functional as F

from tasks.params import Dkd, Kd
from tasks.training.losses import LOSSES, dist, dkd, kd, kd_standardised, objective

# METHODS.md, section 6: values computed by executing the reference implementations
S = torch.tensor([[2.0, 1, 0, -1], [0, 3, -1, 1], [1, -2, 2, 0]])
T = torch.tensor([[3, 0.5, -0.5, -1], [0.5, 2.5, -1.5, 0], [0, -1, 3, 1]])
Y = torch.tensor([0, 1, 2])


@pytest.mark.parametrize(
    ("loss", "knobs", "expected"),
    [
        (kd, {"temperature": 4}, 0.238688),
        (kd, {"temperature": 1}, 0.117963),
        (dkd, {"alpha": 1, "beta": 8}, 1.975578),
        (dkd, {"alpha": 1, "beta": 0}, 0.099462),  # TCKD
        (dkd, {"alpha": 0, "beta": 1}, 0.234515),  # NCKD
        (kd_standardised, {"temperature": 2}, 0.066777),
        (dist, {"inter": 1, "intra": 0}, 0.033548),
        (dist, {"inter": 0, "intra": 1}, 0.099936),
    ],
)
def test_golden_values_of_the_reference_implementations(loss, knobs, expected):
    assert float(loss(S, T, Y, **knobs)) == pytest.approx(expected, abs=2e-6)


def test_dkd_with_the_teachers_own_weights_is_kd():
    """Zhao et al. 2022, eq. 7: kd = TCKD + (1 - p_t) NCKD, sample by sample."""
    rows = []
    for s, t, y in zip(S.split(1), T.split(1), Y.split(1), strict=True):
        rest = 1 - F.softmax(t / 4, 1)[0, y]
        rows.append(dkd(s, t, y, alpha=1, beta=float(rest)))
    torch.testing.assert_close(torch.stack(rows).mean(), kd(S, T, Y))


@pytest.mark.parametrize("name", LOSSES)
def test_nothing_is_left_to_learn_where_the_student_equals_the_teacher(name):
    student = T.clone().requires_grad_()
    value = LOSSES[name](student, T, Y)
    value.backward()
    assert abs(float(value.detach())) < 1e-6
    assert float(student.grad.abs().max()) < 1e-6


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_match_finite_differences(name):
    student = S.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda logits: LOSSES[name](logits, T.double(), Y), (student,))


@pytest.mark.parametrize("name", LOSSES)
def test_any_loss_is_a_positive_number_and_leaves_its_arguments_alone(name):
    arguments = [S.clone(), T.clone(), Y.clone()]
    value = LOSSES[name](*arguments)
    assert value.shape == () and float(value) > 1e-3
    assert all(torch.equal(now, before) for now, before in zip(arguments, (S, T, Y), strict=True))


@pytest.mark.parametrize("name", LOSSES)
def test_following_the_gradient_leads_to_the_teacher(name):
    student = S.double().requires_grad_()
    before = float(LOSSES[name](student, T.double(), Y).detach())
    optimizer = torch.optim.Adam([student], lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        value = LOSSES[name](student, T.double(), Y)
        value.backward()
        optimizer.step()
    assert float(value.detach()) < 0.02 * before


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("scale", [0.0, 1e4])
def test_constant_and_huge_logits_have_finite_gradients(name, scale):
    student = (scale * S).requires_grad_()
    LOSSES[name](student, T * 10, Y).backward()
    assert student.grad.isfinite().all()


def test_kd_at_a_high_temperature_is_half_the_variance_of_the_logit_difference():
    """Hinton et al. 2015, section 2.1, without its assumption that the logits are zero-mean."""
    limit = 0.5 * (S - T).double().var(1, unbiased=False).mean()
    assert float(kd(S.double(), T.double(), Y, temperature=1e4)) == pytest.approx(float(limit), rel=1e-3)


def test_standardised_kd_ignores_the_students_scale_and_offset():
    torch.testing.assert_close(kd_standardised(3 * S + 5, T, Y), kd_standardised(S, T, Y))
    assert abs(float(kd(3 * S + 5, T, Y)) - float(kd(S, T, Y))) > 0.1


def test_objective_adds_up_the_weighted_losses_and_the_cross_entropy():
    total = objective([Kd(method="kd", temperature=1.0, weight=0.9), Dkd(method="dkd", weight=2.0)], 0.1)
    expected = 0.1 * float(F.cross_entropy(S, Y)) + 0.9 * 0.117963 + 2 * 1.975578
    assert float(total(S, T, Y)) == pytest.approx(expected, abs=1e-5)


def test_objective_without_teacher_weight_is_the_cross_entropy_of_the_targets():
    uniform = torch.zeros(3, 4)
    assert float(objective([Kd(method="kd")], 1.0)(uniform, uniform, Y)) == pytest.approx(log(4))
