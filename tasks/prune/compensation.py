"""Least squares: what reads a cut channel learns to do without it, before any training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import torch
from torch import Tensor, nn

from tasks.data.batches import Samples, in_order
from tasks.prune.channels import readers
from tasks.prune.evidence import patches
from tasks.prune.graph import Graph, check_runs

ROWS: Final = 8192  # positions looked at per layer, about
BATCH: Final = 32  # of which all positions lie in memory
RIDGE: Final = 1e-3  # of the mean square of the inputs: how strongly the weights stay where they were


def remove_refitting_(
    model: nn.Module, input_shape: Sequence[int], cuts: Mapping[str, Sequence[int]], samples: Samples
) -> None:
    """Like `remove_`, and after each cut the layers that read it are refitted to answer on `samples` as before.

    Convolutions in groups and transposed ones keep their weights.

    Raises:
        ValueError: as `remove_`.
    """
    cuts = {name: channels for name, channels in cuts.items() if channels}
    if not cuts:
        return
    training, graph = model.training, Graph(model.eval(), input_shape)
    order = {layer: place for place, layer in enumerate(model.modules())}
    for name, channels in cuts.items():
        after = sorted(readers(graph, name, channels), key=lambda found: order[found[0]])
        after = [(layer, lost) for layer, lost in after if _refits(layer)]
        answers = [_seen(model, layer, samples) @ _matrix(layer).T for layer, _ in after]
        graph.cut_(name, channels)
        for (layer, lost), wanted in zip(after, answers, strict=True):
            kept = [row for row in range(wanted.shape[1]) if row not in set(lost)]
            refit_(layer, _seen(model, layer, samples), wanted[:, kept])
    check_runs(model, input_shape, ", ".join(cuts))
    model.train(training)


@torch.no_grad()
def refit_(layer: nn.Module, inputs: Tensor, wanted: Tensor) -> None:
    """Set weight and bias so that the answers to `inputs` come closest to `wanted`, near where they were (ridge).

    inputs: (rows, inputs, then a 1 where the layer has a bias), as `_matrix` has its columns. wanted: (rows, outputs).
    """
    inputs, start = inputs.double(), _matrix(layer).double()
    gram = inputs.T @ inputs
    gram.diagonal().add_(RIDGE * gram.diagonal().mean().clamp_min(1e-12))
    missing = wanted.double() - inputs @ start.T
    fitted = (start + torch.linalg.solve(gram, inputs.T @ missing).T).float()
    weight, bias = layer.weight, layer.bias
    assert isinstance(weight, Tensor)
    if isinstance(bias, Tensor):
        bias.copy_(fitted[:, -1])
        fitted = fitted[:, :-1]
    weight.copy_(fitted.reshape(weight.shape))


def _refits(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv1d | nn.Conv2d) and layer.groups == 1)


@torch.no_grad()
def _matrix(layer: nn.Module) -> Tensor:
    """(outputs, inputs), the bias as last column."""
    weight, bias = layer.weight, layer.bias
    assert isinstance(weight, Tensor)
    flat = weight.flatten(1)
    return torch.cat([flat, bias[:, None]], 1) if isinstance(bias, Tensor) else flat


@torch.no_grad()
def _seen(model: nn.Module, layer: nn.Module, samples: Samples) -> Tensor:
    """(rows, inputs): what the layer multiplies its weights with, a 1 for the bias; always the same positions."""
    parts: list[Tensor] = []
    share = torch.Generator().manual_seed(0)

    def watch(own: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        rows = patches(own, inputs[0])
        parts.append(rows[torch.randperm(len(rows), generator=share)[: ROWS * BATCH // len(samples)]])

    handle = layer.register_forward_pre_hook(watch)
    for inputs, _ in in_order(samples, BATCH):
        model(inputs)
    handle.remove()
    rows = torch.cat(parts)
    return torch.cat([rows, rows.new_ones(len(rows), 1)], 1) if layer.bias is not None else rows
