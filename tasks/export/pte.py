"""ExecuTorch's .pte file for phones and boards, its float operations by XNNPACK where that has them."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from tasks.export.unsupported import lacking, trace
from tasks.measure.runtime import Answers, Call


def write(model: nn.Module, path: Path, shape: tuple[int, ...], *, field: str) -> None:
    """Trace the model for one sample, hand to XNNPACK what it takes, and save the program.

    Raises:
        ValueError: the model cannot be traced, or ExecuTorch lacks an operation.
    """
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    example = torch.zeros(1, *shape)
    program = trace(model, example, dynamic_batch=False, target="ExecuTorch", field=field)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()]).to_executorch()
        except Exception as error:
            reason = lacking(error, model, example, "ExecuTorch")
            raise ValueError(f"{field}: cannot be exported to ExecuTorch: {reason}") from None
    path.write_bytes(lowered.buffer)


def read(path: Path) -> Call:
    """The file's answers to one sample, by ExecuTorch's own runtime."""
    from executorch.runtime import Runtime

    method = Runtime.get().load_program(path).load_method("forward")

    def call(inputs: npt.NDArray[np.float32]) -> Answers:
        answers: Answers = method.execute([torch.from_numpy(inputs)])[0].numpy().copy()
        return answers

    return call
