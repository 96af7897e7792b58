"""One line where the memory does not suffice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def enough_memory(place: str, remedy: str) -> Iterator[None]:
    """Name the place, and what to lower, where an allocation fails.

    Raises:
        ValueError: the memory does not suffice.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        # on the CPU, PyTorch has no exception of its own for it
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error):
            raise ValueError(f"{place}: out of memory; {remedy}") from error
        raise
