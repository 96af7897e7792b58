"""What is left of each layer when channels go, and what that costs, without building the smaller model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from tasks.measure.size import macs, parameters
from tasks.prune.channels import Group
from tasks.prune.graph import Layer, Tied, cell, layers, shape_of


@dataclass(frozen=True)
class Footprint:
    """The layers that run, and which of their channels go together; `groups` are of the model as it is now.

    other_macs: multiply-accumulates outside of these layers, which stay.
    """

    model: nn.Module
    layers: Mapping[str, Layer]
    groups: Sequence[Group]
    other_macs: int

    @staticmethod
    def of(model: nn.Module, input_shape: Sequence[int], groups: Sequence[Group]) -> Footprint:
        """Of the model as it is now."""
        found = layers(model, input_shape)
        counted = sum(layer.positions * layer.module.weight.numel() for layer in found.values())
        return Footprint(model, found, groups, macs(model, input_shape) - counted)

    def macs(self, kept: Sequence[int]) -> int:
        """Multiply-accumulates of one sample when so many channels of each group stay."""
        total = self.other_macs
        for name, (inputs, outputs) in self.sizes(kept).items():
            layer = self.layers[name]
            total += layer.positions * cell(layer.module) * inputs * outputs
        return total

    def parameters(self, kept: Sequence[int]) -> int:
        """Parameters when so many channels of each group stay."""
        lost, total = self._lost(kept), parameters(self.model)
        for name in {name for name, _ in lost}:
            module, inputs, outputs = self.model.get_submodule(name), lost[name, "inputs"], lost[name, "outputs"]
            for parameter in module.parameters(recurse=False):
                if isinstance(module, Tied) and parameter is module.weight:
                    before_in, before_out = shape_of(module)
                    left = (before_in - inputs) * (before_out - outputs) * cell(module)
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
