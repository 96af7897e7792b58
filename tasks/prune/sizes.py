"""What is left of each layer when channels go, and what that costs, without building the smaller model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn

from tasks.measure.size import macs, parameters
from tasks.prune.channels import Group
from tasks.prune.graph import PRUNED, TRANSPOSED

Tied = nn.Conv1d | nn.Conv2d | nn.Linear | nn.ConvTranspose1d | nn.ConvTranspose2d


@dataclass(frozen=True)
class Layer:
    """A convolution or linear layer that runs.

    inputs, outputs: its channels or features; of a layer in groups, the inputs of one.
    input_shapes: of one sample, for each time that it runs in a pass.
    positions: at which it multiplies all its weights, in all these.
    """

    module: Tied
    inputs: int
    outputs: int
    input_shapes: tuple[tuple[int, ...], ...]
    positions: int


@dataclass(frozen=True)
class Footprint:
    """The layers that run, and which of their channels go together.

    other_macs: multiply-accumulates outside of these layers, which stay.
    """

    model: nn.Module
    layers: Mapping[str, Layer]
    groups: Sequence[Group]
    other_macs: int

    @staticmethod
    def of(model: nn.Module, input_shape: Sequence[int], groups: Sequence[Group]) -> Footprint:
        """Of the model as it is now."""
        layers = _layers(model, input_shape)
        counted = sum(layer.positions * layer.module.weight.numel() for layer in layers.values())
        return Footprint(model, layers, groups, macs(model, input_shape) - counted)

    def macs(self, kept: Sequence[int]) -> int:
        """Multiply-accumulates of one sample when so many channels of each group stay."""
        total = self.other_macs
        for name, (inputs, outputs) in self.sizes(kept).items():
            layer = self.layers[name]
            total += layer.positions * _cell(layer.module) * inputs * outputs
        return total

    def parameters(self, kept: Sequence[int]) -> int:
        """Parameters when so many channels of each group stay."""
        lost, total = self._lost(kept), parameters(self.model)
        for name in {name for name, _ in lost}:
            module, inputs, outputs = self.model.get_submodule(name), lost[name, "inputs"], lost[name, "outputs"]
            for parameter in module.parameters(recurse=False):
                if isinstance(module, Tied) and parameter is module.weight:
                    before_in, before_out = _shape(module)
                    left = (before_in - inputs) * (before_out - outputs) * _cell(module)
                    total -= parameter.numel() - left
                elif parameter.numel() > 1:  # a slope for all channels stays
                    total -= outputs
        return total

    def sizes(self, kept: Sequence[int]) -> dict[str, tuple[int, int]]:
        """(inputs, outputs) of each layer when so many channels of each group stay."""
        lost = self._lost(kept)
        return {
            name: (layer.inputs - lost[name, "inputs"], layer.outputs - lost[name, "outputs"])
            for name, layer in self.layers.items()
        }

    def _lost(self, kept: Sequence[int]) -> defaultdict[tuple[str, str], int]:
        lost: defaultdict[tuple[str, str], int] = defaultdict(int)
        for group, count in zip(self.groups, kept, strict=True):
            for tie, channels in group.ties.items():
                lost[tie] += channels * (group.channels - count) // group.channels
        return lost


def _layers(model: nn.Module, input_shape: Sequence[int]) -> dict[str, Layer]:
    shapes: defaultdict[nn.Module, list[tuple[int, ...]]] = defaultdict(list)
    positions: defaultdict[nn.Module, int] = defaultdict(int)

    def watch(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen = inputs[0] if isinstance(layer, TRANSPOSED) else output
        across = seen.shape[1:-1] if isinstance(layer, nn.Linear) else seen.shape[2:]
        shapes[layer].append(tuple(inputs[0].shape[1:]))
        positions[layer] += prod(across)

    handles = [module.register_forward_hook(watch) for module in model.modules() if isinstance(module, PRUNED)]
    training = model.training
    with torch.no_grad():
        model.eval()(torch.zeros(1, *input_shape))
    model.train(training)
    for handle in handles:
        handle.remove()
    return {
        name: Layer(module, *_shape(module), tuple(shapes[module]), positions[module])
        for name, module in model.named_modules()
        if isinstance(module, Tied) and module in shapes
    }


def _shape(layer: Tied) -> tuple[int, int]:
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    return layer.in_channels // layer.groups, layer.out_channels


def _cell(layer: Tied) -> int:
    """Weights per pair of an input and an output."""
    return prod(layer.weight.shape[2:])
