"""How made samples are changed: so many steps of Adam, the rate falling to zero."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from math import cos, pi

import torch
from torch import Tensor
from tqdm import tqdm

from tasks.params.synthesis import Synthesis


def steps_of(learned: Sequence[Tensor], params: Synthesis) -> Iterator[Callable[[Tensor], None]]:
    """`params.steps` times the function that takes a step down a loss.

    Raises:
        ValueError: the loss is not finite.
    """
    optimizer = torch.optim.Adam(learned, lr=params.lr)
    for number in tqdm(range(params.steps), "coreset: making", leave=False, disable=not sys.stderr.isatty()):

        def step(loss: Tensor, number: int = number) -> None:
            if not bool(loss.isfinite()):
                raise ValueError(f"coreset: the loss is {loss.item()} in step {number + 1}; lower coreset.lr")
            optimizer.param_groups[0]["lr"] = params.lr * (1 + cos(pi * number / params.steps)) / 2
            optimizer.zero_grad(set_to_none=True)
            # of the networks nobody asks
            loss.backward(inputs=list(learned))  # type: ignore[no-untyped-call]
            optimizer.step()

        yield step
