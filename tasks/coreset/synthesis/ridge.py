"""Kernel ridge regression on features: what a network would answer whose last layer is fitted to the made samples."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


def response(support: Tensor, queries: Tensor, ridge: float) -> Tensor:
    """What each label of `support` adds to each answer: answers = response @ labels.

    Args:
        support: (k, features).
        queries: (n, features).
        ridge: in units of the mean diagonal entry of the support's kernel.

    Returns:
        (n, k), float64.
    """
    support, queries = support.double(), queries.double()
    kernel = support @ support.T
    damped = kernel + ridge * kernel.trace() / len(kernel) * torch.eye(len(kernel), dtype=kernel.dtype).to(kernel)
    solved: Tensor = torch.linalg.solve(damped, support @ queries.T)
    return solved.T


def ridge_loss(support: Tensor, labels: Tensor, queries: Tensor, targets: Tensor, ridge: float) -> Tensor:
    """Mean squared error on the queries of the regression on the support; differentiable in features and labels.

    Args:
        support: (k, features); labels: (k, classes) probabilities.
        queries: (n, features); targets: (n, classes) probabilities.

    Nguyen et al. 2021, arXiv:2011.00050, eq. 7; on features of trained networks, Zhou et al. 2022, arXiv:2206.00719.
    """
    # centred: a sample of which nothing is known is answered with equal shares
    centre = 1 / labels.shape[1]
    answers = response(support, queries, ridge) @ (labels.double() - centre)
    return (answers - (targets.double() - centre)).square().sum(1).mean()


def solved_labels(parts: Iterable[tuple[Tensor, Tensor]], ridge: float) -> Tensor:
    """The labels of the support that minimise the squared error on all queries together, in closed form.

    Args:
        parts: (response, targets) of each batch and network: (n, k) and (n, classes) probabilities.
        ridge: in units of the mean diagonal entry of the normal equations.

    Returns:
        (k, classes), float64, whose rows need not be probabilities.

    Nguyen et al. 2021, arXiv:2011.00050, eq. 8 (label solve).
    """
    normal: Tensor | float = 0.0
    right: Tensor | float = 0.0
    centre = 0.0
    for rows, targets in parts:
        centre = 1 / targets.shape[1]
        normal = normal + rows.T @ rows
        right = right + rows.T @ (targets.double() - centre)
    assert isinstance(normal, Tensor) and isinstance(right, Tensor)
    damping = ridge * normal.trace() / len(normal) * torch.eye(len(normal), dtype=normal.dtype).to(normal)
    labels: Tensor = torch.linalg.solve(normal + damping, right) + centre
    return labels


def as_probabilities(labels: Tensor) -> Tensor:
    """The nearest point to each row among those of no negative entry and sum 1.

    Duchi et al. 2008, doi:10.1145/1390156.1390191.
    """
    ordered, _ = labels.sort(1, descending=True)
    excess = (ordered.cumsum(1) - 1) / torch.arange(1, labels.shape[1] + 1).to(labels)
    count = (ordered > excess).sum(1, keepdim=True)
    return (labels - excess.gather(1, count - 1)).clamp_min(0)
