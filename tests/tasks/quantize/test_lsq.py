import pytest
import torch

from tasks.quantize.lsq import levels, rounded, scaled

ZERO = torch.zeros(())


def gradient_to_step(value, step, limits, zero=0.0):
    step = torch.tensor(step, requires_grad=True)
    found = levels(torch.tensor(value), step, torch.tensor(zero), limits)
    ((found - zero) * step).backward()
    return float(step.grad)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.55, 1 - 1.1), (0.7, 1 - 1.4), (-0.8, -2 + 1.6), (10.0, 7), (-10.0, -7), (3.5, 0.0)],
)
def test_the_gradient_towards_the_step_is_the_paper_s_eq_3(value, expected):
    assert gradient_to_step(value, 0.5, (-7, 7)) == pytest.approx(expected, abs=1e-6)


def test_a_range_that_begins_at_zero_has_no_gradient_below_it():
    assert gradient_to_step(-1.0, 0.5, (0, 255)) == 0
    assert gradient_to_step(-100.0, 0.5, (0, 255), zero=128.0) == -128


def test_values_inside_pass_their_gradient_and_those_outside_none():
    values = torch.tensor([-9.0, -3.4, 0.2, 3.4, 9.0], requires_grad=True)
    levels(values, torch.tensor(1.0), ZERO, (-7, 7)).sum().backward()
    assert values.grad.tolist() == [0, 1, 1, 1, 0]


def test_levels_are_those_of_the_runtime():
    values = torch.tensor([0.5, 1.5, 2.5, -0.5, 300.0, -300.0])
    assert levels(values, torch.tensor(1.0), torch.tensor(3.0), (0, 255)).tolist() == [3, 5, 5, 3, 255, 0]


def test_the_error_inside_is_half_a_step_at_most_and_grid_points_are_exact():
    values = torch.linspace(-0.7, 0.7, 1001)
    step = torch.tensor(0.1)
    assert ((levels(values, step, ZERO, (-7, 7)) * step - values).abs() <= 0.05 + 1e-6).all()
    grid = torch.arange(-7.0, 8.0) * step
    assert torch.equal(levels(grid, step, ZERO, (-7, 7)) * step, grid)


def test_rounding_is_exact_far_from_zero_too():
    values = torch.tensor([8388607.5, -4194303.25, 123456.5], requires_grad=True)
    assert torch.equal(rounded(values), values.detach().round())


def test_the_step_s_gradient_is_scaled_and_its_value_is_not():
    step = torch.tensor(0.37, requires_grad=True)
    found = scaled(step, 100, 4)
    assert float(found.detach()) == float(step.detach())
    found.backward()
    assert float(step.grad) == pytest.approx(1 / 20)
