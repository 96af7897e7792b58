"""What pruning may look at besides the weights: how the model does on samples, what each layer reads there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tasks.data.batches import Samples, in_order
from tasks.data.dataset import Card
from tasks.prune.allocation import Score
from tasks.training.objective import target_loss

Layers = Iterable[nn.Module]
BATCH = 128


@dataclass(frozen=True)
class Evidence:
    """What decides how much of each layer goes, and which part.

    score: loss and accuracy of a model on the validation subset.
    samples: of the training, for criteria that ask for them, BatchNorm statistics and compensation.
    card: of the data, for targets that are measured on the file.
    """

    input_shape: Sequence[int]
    score: Score
    samples: Samples | None = None
    seed: int = 0
    card: Card | None = None


def input_changes(model: nn.Module, samples: Samples, layers: Layers) -> dict[nn.Module, Tensor]:
    """(samples, inputs) for each layer: by how much the mean loss falls per sample as an input fades, to first order.

    Of a layer that runs several times in a pass, each has rows of its own. Layers without gradient are left out.
    """
    found: dict[nn.Module, list[Tensor]] = defaultdict(list)
    reads: list[tuple[nn.Module, Tensor]] = []

    def watch(layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        # a view of its own: the gradient then is that of this use alone, not of a shortcut that reads the same tensor
        own = inputs[0].view_as(inputs[0])
        reads.append((layer, own))
        return (own, *inputs[1:])

    with _hooked(layers, watch):
        for loss in _losses(model, samples):
            reached = [(layer, own) for layer, own in reads if own.requires_grad]
            reads.clear()
            if not reached or not loss.requires_grad:
                continue
            gradients = torch.autograd.grad(loss, [own for _, own in reached], allow_unused=True)
            for (layer, own), gradient in zip(reached, gradients, strict=True):
                if gradient is not None:
                    found[layer].append(_by_sample(layer, own.detach() * gradient))
    return {layer: torch.cat(parts) for layer, parts in found.items()}


def weight_changes(model: nn.Module, samples: Samples, layers: Layers) -> dict[nn.Module, Tensor]:
    """Like each layer's weight: w dL/dw, its part in the mean loss's first-order change; others are left out."""
    chosen = [layer for layer in layers if isinstance(layer.weight, Tensor) and layer.weight.requires_grad]
    weights = [layer.weight for layer in chosen if isinstance(layer.weight, Tensor)]
    found: dict[nn.Module, Tensor] = {}
    for loss in _losses(model, samples):
        if not chosen or not loss.requires_grad:
            continue
        for layer, weight, gradient in zip(
            chosen, weights, torch.autograd.grad(loss, weights, allow_unused=True), strict=True
        ):
            if gradient is not None:
                found[layer] = found.get(layer, torch.zeros(())) + weight.detach() * gradient
    return found


@torch.no_grad()
def input_norms(model: nn.Module, samples: Samples, layers: Layers) -> dict[nn.Module, Tensor]:
    """(in_features,) for each linear layer that runs: L2 norm of every input over all samples."""
    squares: dict[nn.Module, Tensor] = {}

    def watch(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        square = inputs[0].detach().flatten(0, -2).square().sum(0)
        squares[layer] = squares.get(layer, torch.zeros_like(square)) + square

    with _hooked(layers, watch):
        for inputs, _ in in_order(samples, BATCH):
            model(inputs)
    return {layer: square.sqrt() for layer, square in squares.items()}


def _losses(model: nn.Module, samples: Samples) -> Iterator[Tensor]:
    """Parts of the mean loss over the samples, batch by batch; no gradient stays in the model."""
    with torch.enable_grad():
        for inputs, targets in in_order(samples, BATCH):
            # asking at the input reaches every layer, frozen ones too
            yield target_loss(model(inputs.requires_grad_()), targets) * (len(inputs) / len(samples))


def _by_sample(layer: nn.Module, product: Tensor) -> Tensor:
    """(batch, inputs), summed over positions."""
    if isinstance(layer, nn.Linear):
        return product.flatten(1, -2).sum(1) if product.ndim > 2 else product
    return product.flatten(2).sum(2)


@contextmanager
def _hooked(layers: Layers, hook: Callable[..., object]) -> Iterator[None]:
    handles = [layer.register_forward_pre_hook(hook) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
