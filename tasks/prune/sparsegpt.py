"""SparseGPT: weights go column by column, and those after them make up for it (Frantar, Alistarh 2023)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import torch
from torch import Tensor

from tasks.prune.criteria import Units, sparsegpt

# scores of a block of columns (outputs, columns) and its first column, to True where a weight is kept
Choose = Callable[[Tensor, int], Tensor]
RIDGE: Final = 1e-2  # of the mean square of the inputs, as in the paper


@torch.no_grad()
def solve_(weight: Tensor, gram: Tensor, widths: Sequence[int], choose: Choose) -> Tensor:
    """Zero weights (outputs, inputs) in place, and change the others so that the layer's answers stay near.

    gram: (inputs, inputs), inputs' products summed over samples. widths: columns of each block; `choose` sees a block
    when all before it are done, so that it ranks weights as these have changed them.

    Returns:
        (outputs, inputs), True where a weight is kept.

    Frantar, Alistarh 2023, arXiv:2301.00774, algorithm 1.
    """
    gram = gram.double().clone()
    gram.diagonal().add_(RIDGE * gram.diagonal().mean().clamp_min(1e-12))
    # its row i, from i on: of the inverse without all inputs before i
    inverse = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(gram)), upper=True)
    fitted, keep = weight.double(), torch.ones(weight.shape, dtype=torch.bool, device=weight.device)
    start = 0
    for width in widths:
        own = slice(start, start + width)
        alone = (1 / inverse.diagonal()[own]).expand(len(weight), -1)
        scores = sparsegpt(Units(fitted[:, own].reshape(-1, 1), inputs=alone.reshape(-1))).view_as(alone)
        keep[:, own] = choose(scores.masked_fill(weight[:, own] == 0, -1), start)
        for column in range(start, start + width):
            error = fitted[:, column].masked_fill(keep[:, column], 0) / inverse[column, column]
            fitted[:, column:] -= torch.outer(error, inverse[column, column:])
        start += width
    weight.copy_(fitted * keep)
    return keep
