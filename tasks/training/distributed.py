"""One training in several processes, started by torchrun: each takes its part of every batch."""

from __future__ import annotations

import os

import torch
from torch import Tensor, nn
from torch import distributed as dist

from tasks.data.batches import Indices
from tasks.training.average import Average


def several() -> bool:
    """Whether torchrun has started more than this process."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def join() -> None:
    """Meet the other processes, where there are several."""
    if several() and not dist.is_initialized():
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")


def part_of_batch(positions: Indices) -> Indices:
    """This process's share; the shares are equal, so that the mean of their gradients is the batch's.

    Raises:
        ValueError: there are more processes than samples in the batch.
    """
    if not dist.is_initialized():
        return positions
    size = len(positions) // dist.get_world_size()
    if not size:
        raise ValueError(
            f"train.batch_size is {len(positions)}; it must be at least the {dist.get_world_size()} processes"
        )
    start = dist.get_rank() * size
    return positions[start : start + size]


def agreed(choice: str) -> str:
    """The first process's choice, in all of them."""
    held = [choice]
    if dist.is_initialized():
        dist.broadcast_object_list(held)
    return held[0]


def average_gradients_(optimizer: torch.optim.Optimizer) -> None:
    """Give every process the mean of all gradients."""
    average_([p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None])


def average_buffers_(model: nn.Module, average: Average | None) -> None:
    """Give every process the mean of BatchNorm's statistics, and of their moving averages."""
    average_([buffer for buffer in model.buffers() if buffer.is_floating_point()])
    average_(average.buffers if average else [])


def average_(tensors: list[Tensor]) -> None:
    """Give every process the mean of each tensor."""
    if not tensors or not dist.is_initialized():
        return
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])  # one message is faster than many
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    sizes = [tensor.numel() for tensor in tensors]
    for tensor, mean in zip(tensors, torch.split(flat, sizes), strict=True):
        tensor.copy_(mean.view(tensor.shape))
