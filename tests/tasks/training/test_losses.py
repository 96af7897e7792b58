import pytest
import torch
from torch.nn import functional as F

from tasks.training.features import FEATURE_LOSSES
from tasks.training.losses import LOGIT_LOSSES, LOSSES, PEER_LOSSES, dist, dkd, kd, kd_standardised, mse, mutual

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


@pytest.mark.parametrize("name", LOGIT_LOSSES)
def test_nothing_is_left_to_learn_where_the_student_equals_the_teacher(name):
    student = T.clone().requires_grad_()
    value = LOGIT_LOSSES[name](student, T, Y)
    value.backward()
    assert abs(float(value.detach())) < 1e-6
    assert float(student.grad.abs().max()) < 1e-6


@pytest.mark.parametrize("name", LOGIT_LOSSES)
def test_gradients_match_finite_differences(name):
    student = S.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda logits: LOGIT_LOSSES[name](logits, T.double(), Y), (student,))


@pytest.mark.parametrize("name", LOGIT_LOSSES)
def test_any_loss_is_a_positive_number_and_leaves_its_arguments_alone(name):
    arguments = [S.clone(), T.clone(), Y.clone()]
    value = LOGIT_LOSSES[name](*arguments)
    assert value.shape == () and float(value) > 1e-3
    assert all(torch.equal(now, before) for now, before in zip(arguments, (S, T, Y), strict=True))


@pytest.mark.parametrize("name", LOGIT_LOSSES)
def test_following_the_gradient_leads_to_the_teacher(name):
    student = S.double().requires_grad_()
    before = float(LOGIT_LOSSES[name](student, T.double(), Y).detach())
    optimizer = torch.optim.Adam([student], lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        value = LOGIT_LOSSES[name](student, T.double(), Y)
        value.backward()
        optimizer.step()
    assert float(value.detach()) < 0.02 * before


@pytest.mark.parametrize("name", LOGIT_LOSSES)
@pytest.mark.parametrize("scale", [0.0, 1e4])
def test_constant_and_huge_logits_have_finite_gradients(name, scale):
    student = (scale * S).requires_grad_()
    LOGIT_LOSSES[name](student, T * 10, Y).backward()
    assert student.grad.isfinite().all()


def test_kd_at_a_high_temperature_is_half_the_variance_of_the_logit_difference():
    """Hinton et al. 2015, section 2.1, without its assumption that the logits are zero-mean."""
    limit = 0.5 * (S - T).double().var(1, unbiased=False).mean()
    assert float(kd(S.double(), T.double(), Y, temperature=1e4)) == pytest.approx(float(limit), rel=1e-3)


def test_standardised_kd_ignores_the_students_scale_and_offset():
    torch.testing.assert_close(kd_standardised(3 * S + 5, T, Y), kd_standardised(S, T, Y))
    assert abs(float(kd(3 * S + 5, T, Y)) - float(kd(S, T, Y))) > 0.1


def test_mse_by_hand():
    assert float(mse(torch.tensor([[1.0], [2.0]]), torch.tensor([[4.0], [1.0]]), Y)) == 5


def test_dkd_takes_the_likeliest_class_of_mixed_targets():
    mixed = 0.7 * F.one_hot(Y, 4) + 0.3 * F.one_hot(torch.tensor([3, 3, 3]), 4)
    assert torch.equal(dkd(S, T, mixed), dkd(S, T, Y))


@pytest.mark.parametrize("name", LOGIT_LOSSES)
def test_a_lone_sample_is_compared_too_and_its_own_equal_has_nothing_to_learn(name):
    student = S[:1].clone().requires_grad_()
    value = LOGIT_LOSSES[name](student, T[:1], Y[:1])
    value.backward()
    assert float(value.detach()) > 1e-3 and float(student.grad.abs().max()) > 1e-3
    assert abs(float(LOGIT_LOSSES[name](T[:1], T[:1], Y[:1]))) < 1e-6


def test_dist_of_a_lone_sample_is_the_part_within_samples():
    one = S[:1], T[:1], Y[:1]
    torch.testing.assert_close(dist(*one), dist(*one, intra=0))


def test_peers_each_learn_from_the_other_s_answer_and_the_second_from_the_targets():
    student, peer = S.clone().requires_grad_(), T.clone().requires_grad_()
    mutual(student, peer, Y).backward()
    alone, other = S.clone().requires_grad_(), T.clone().requires_grad_()
    kd(alone, T, Y, temperature=1.0).backward()
    (kd(other, S, Y, temperature=1.0) + F.cross_entropy(other, Y)).backward()
    torch.testing.assert_close(student.grad, alone.grad)
    torch.testing.assert_close(peer.grad, other.grad)


def test_one_table_lists_losses_on_logits_on_features_and_between_peers():
    assert dict(LOSSES) == {**LOGIT_LOSSES, **PEER_LOSSES, **FEATURE_LOSSES}
