"""Promotions that meet: each in a process of its own, side by side up to the step that only one can take."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

from flows import promote as module
from tasks.params import load_params

FORK = multiprocessing.get_context("fork")


def promote_at_once(root: Path, *names: str) -> list[str]:
    """Promote these versions at the same time; what each said, in the order of the alphabet."""
    barrier, answers = FORK.Barrier(len(names)), FORK.Queue()
    processes = [FORK.Process(target=_promote, args=(root, name, barrier, answers)) for name in names]
    for process in processes:
        process.start()
    told = sorted(answers.get(timeout=120) for _ in processes)
    for process in processes:
        process.join()
    return told


def _promote(root: Path, name: str, barrier: Any, answers: Any) -> None:
    carry_out = module._carry_out

    def together(*args: Any) -> None:
        barrier.wait(60)
        carry_out(*args)

    module._carry_out = together
    try:
        answers.put(str(module.promote(root, load_params(root / "params.yaml"), name)))
    except ValueError as error:
        answers.put(str(error))
