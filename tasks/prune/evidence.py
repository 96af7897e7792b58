"""What pruning may look at besides the weights: how the model does on samples, what each layer reads there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tasks.data.batches import Samples, in_order
from tasks.data.dataset import Card
from tasks.prune.allocation import Score
from tasks.prune.operations import OperationTable
from tasks.training.objective import target_loss

Layers = Iterable[nn.Module]
IMAGES = torch.channels_last  # in which convolutions are a tenth faster
BATCH = 64  # of larger ones the activations leave the cache
PATCHED_BATCH = 32  # of which all positions lie in memory


@dataclass(frozen=True)
class Evidence:
    """What decides how much of each layer goes, and which part.

    score: loss and accuracy of a model on the validation subset.
    samples: of the training, for criteria that ask for them, BatchNorm statistics and compensation.
    card: of the data, for targets that are measured on the file.
    operations: for a target of latency, what the layers cost by their channels.
    """

    input_shape: Sequence[int]
    score: Score
    samples: Samples | None = None
    seed: int = 0
    card: Card | None = None
    operations: OperationTable | None = None


def input_changes(model: nn.Module, samples: Samples, layers: Layers) -> dict[nn.Module, Tensor]:
    """(samples, inputs) for each layer: by how much the mean loss falls per sample as an input fades, to first order.

    Of a layer that runs several times in a pass, each has rows of its own. Layers without gradient are left out.
    """
    found: dict[nn.Module, list[Tensor]] = defaultdict(list)
    reads: list[tuple[nn.Module, Tensor]] = []

    def watch(layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        # a view of its own: the gradient then is that of this use alone, not of a shortcut that reads the same tensor
        read = inputs[0].contiguous(memory_format=IMAGES) if inputs[0].ndim == 4 else inputs[0]
        own = read.view_as(read)
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


def weight_changes(model: nn.Module, samples: Samples, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Like each weight: w dL/dw, its part in the mean loss's first-order change; without gradient it is left out."""
    asking = {name: weight for name, weight in weights.items() if weight.requires_grad}
    found: dict[str, Tensor] = {}
    for loss in _losses(model, samples):
        if not asking or not loss.requires_grad:
            continue
        gradients = torch.autograd.grad(loss, list(asking.values()), allow_unused=True)
        for (name, weight), gradient in zip(asking.items(), gradients, strict=True):
            if gradient is not None:
                found[name] = found.get(name, torch.zeros(())) + weight.detach() * gradient
    return found


def input_norms(model: nn.Module, samples: Samples, layers: Layers) -> dict[nn.Module, Tensor]:
    """(outputs, inputs) for each linear layer or convolution that runs: L2 norm of what each weight multiplies.

    Over all samples and positions; a convolution's inputs are those of `patches`.
    """
    squares = _summed(model, samples, layers, lambda rows: rows.square().sum(0))
    return {layer: _by_weight(layer, square.sqrt()) for layer, square in squares.items()}


def input_grams(model: nn.Module, samples: Samples, layers: Layers) -> dict[nn.Module, Tensor]:
    """(inputs, inputs), float64, for each layer that runs: products of its inputs, summed like `input_norms`."""
    return _summed(model, samples, layers, lambda rows: rows.double().T @ rows.double())


def patches(layer: nn.Module, inputs: Tensor) -> Tensor:
    """(rows, inputs): what a linear layer or convolution multiplies its weights with, a row per sample and position."""
    if isinstance(layer, nn.Linear):
        return inputs.flatten(0, -2)
    assert isinstance(layer, nn.Conv1d | nn.Conv2d)
    if isinstance(layer.padding, str) or layer.padding_mode != "zeros":
        padded = F.pad(
            inputs,
            layer._reversed_padding_repeated_twice,
            mode="constant" if layer.padding_mode == "zeros" else layer.padding_mode,
        )
        padding: tuple[int, ...] = (0,) * len(layer.kernel_size)
    else:
        padded, padding = inputs, layer.padding
    if isinstance(layer, nn.Conv2d):
        columns = F.unfold(padded, layer.kernel_size, layer.dilation, padding, layer.stride)
    else:
        columns = F.unfold(
            padded[:, :, None],
            (1, *layer.kernel_size),
            (1, *layer.dilation),
            (0, *padding),
            (1, *layer.stride),
        )
    return columns.transpose(1, 2).flatten(0, 1)


@torch.no_grad()
def _summed(
    model: nn.Module, samples: Samples, layers: Layers, of_rows: Callable[[Tensor], Tensor]
) -> dict[nn.Module, Tensor]:
    sums: dict[nn.Module, Tensor] = {}

    def watch(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        own = of_rows(patches(layer, inputs[0].detach()))
        sums[layer] = sums.get(layer, torch.zeros_like(own)) + own

    with _hooked(layers, watch):
        for inputs, _ in in_order(samples, PATCHED_BATCH):
            model(inputs)
    return sums


def _by_weight(layer: nn.Module, norms: Tensor) -> Tensor:
    """In groups, each output has inputs of its own."""
    weight, groups = layer.weight, getattr(layer, "groups", 1)
    assert isinstance(weight, Tensor)
    return norms.view(groups, 1, -1).expand(-1, len(weight) // groups, -1).reshape(len(weight), -1)


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
