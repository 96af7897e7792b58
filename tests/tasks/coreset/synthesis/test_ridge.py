import numpy as np
import pytest
import torch

from tasks.coreset.synthesis.ridge import as_probabilities, response, ridge_loss, solved_labels

GENERATOR = torch.Generator().manual_seed(0)
SUPPORT, QUERIES = (torch.randn(count, 6, generator=GENERATOR) for count in (4, 9))
LABELS, TARGETS = (torch.rand(count, 3, generator=GENERATOR).softmax(1) for count in (4, 9))
RIDGE = 0.1


def by_hand(support, queries, ridge):
    support, queries = support.double().numpy(), queries.double().numpy()
    kernel = support @ support.T
    return queries @ support.T @ np.linalg.inv(kernel + ridge * np.trace(kernel) / len(kernel) * np.eye(len(kernel)))


def test_the_response_is_the_closed_form():
    np.testing.assert_allclose(response(SUPPORT, QUERIES, RIDGE), by_hand(SUPPORT, QUERIES, RIDGE), atol=1e-10)


def test_without_damping_the_support_is_answered_with_its_own_labels():
    torch.testing.assert_close(response(SUPPORT, SUPPORT, 1e-12), torch.eye(4).double(), atol=1e-6, rtol=0)


def test_the_loss_is_zero_where_support_and_queries_are_the_same():
    assert float(ridge_loss(SUPPORT, LABELS, SUPPORT, LABELS, 1e-12)) == pytest.approx(0, abs=1e-10)


def test_the_gradient_is_that_of_finite_differences():
    support, labels = SUPPORT.double().requires_grad_(), LABELS.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda s, y: ridge_loss(s, y, QUERIES, TARGETS, RIDGE), (support, labels))


def test_solved_labels_are_the_direct_least_squares_solution():
    networks = [(SUPPORT, QUERIES, TARGETS), (SUPPORT.flip(1).relu(), QUERIES.square(), TARGETS.flip(0))]
    parts = [(response(s, q, RIDGE), t) for s, q, t in networks]
    stacked = np.concatenate([by_hand(s, q, RIDGE) for s, q, _ in networks])
    wanted, *_ = np.linalg.lstsq(stacked, np.concatenate([t.double().numpy() for *_, t in networks]) - 1 / 3)
    np.testing.assert_allclose(solved_labels(parts, 1e-12), wanted + 1 / 3, atol=1e-6)


def test_no_other_labels_have_a_lower_loss_than_solved_ones():
    solved = solved_labels([(response(SUPPORT, QUERIES, RIDGE), TARGETS)], 1e-12)
    best = ridge_loss(SUPPORT, solved, QUERIES, TARGETS, RIDGE)
    for _ in range(20):
        other = solved + 0.01 * torch.randn(4, 3, generator=GENERATOR, dtype=torch.float64)
        assert ridge_loss(SUPPORT, other, QUERIES, TARGETS, RIDGE) > best


def test_rows_become_the_nearest_probabilities():
    rows = torch.tensor([[0.2, 0.3, 0.5], [3.0, 0.0, 0.0], [0.5, 0.5, -1.0], [0.9, 0.6, 0.0]])
    wanted = torch.tensor([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.65, 0.35, 0.0]])
    torch.testing.assert_close(as_probabilities(rows), wanted)
