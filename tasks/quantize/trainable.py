"""An INT8 file as a PyTorch module: the same operations, rounded at the same places, and its constants learn.

What is trained is the graph that ships, so no second description of where to round can differ from the runtime's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import onnx
import torch
from onnx import helper
from torch import Tensor, nn

from tasks.quantize.lsq import levels, rounded, scaled
from tasks.quantize.operators import OPERATORS
from tasks.quantize.qdq import HEAVY, IntegerLayer, constants, integer_layers, limits, store_, values, with_constants

PAIR: Final = ("QuantizeLinear", "DequantizeLinear")
Knobs = Mapping[str, Any]


class Trainable(nn.Module):
    """The first output of the file for (batch, *shape) inputs.

    Parameters are the weights and biases of convolutions and products, and the logarithm of every step: an optimizer
    such as Adam moves each parameter by about its learning rate, whatever its size, and steps are small. Zero points
    stay, since a range that begins at zero does the work of a ReLU, and so does the grid of raw values.

    Raises:
        ValueError: an operation is none of OPERATORS.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        super().__init__()
        self._model, self._held = model, constants(model.graph)
        self._layers = list(integer_layers(model.graph))
        _refuse_unknown(model.graph)
        learned: dict[str, Any] = {}
        for layer in self._layers:
            learned[layer.weight.levels] = values(layer.weight, self._held)
            if layer.bias:
                learned[layer.bias.levels] = values(layer.bias, self._held)
        learned |= {name: self._held[name] for name in _floats(model.graph, self._held)}
        self._limits = {layer.weight.levels: limits(layer.weight, self._held) for layer in self._layers}
        self._plan = [(node, _knobs(node)) for node in model.graph.node]
        steps = [layer.weight.step for layer in self._layers]
        steps += _shared_steps(model.graph)
        self._learned = {name: place for place, name in enumerate(learned)}
        self._steps = {name: place for place, name in enumerate(dict.fromkeys(steps))}
        self.learned = nn.ParameterList([nn.Parameter(torch.tensor(array)) for array in learned.values()])
        self.log_steps = nn.ParameterList([nn.Parameter(torch.tensor(self._held[name]).log()) for name in self._steps])
        self._fixed = {name: torch.tensor(array) for name, array in self._held.items() if name not in learned}

    def forward(self, x: Tensor) -> Tensor:
        """Always in float32: half precision has not the digits for 256 levels."""
        with torch.autocast(x.device.type, enabled=False):
            known = self._constants(x.device)
            known[self._model.graph.input[0].name] = x.float()
            for node, knobs in self._plan:
                if node.output[0] not in known:
                    found = self._run(node, knobs, known)
                    known.update(zip(node.output, found if isinstance(found, tuple) else (found,), strict=False))
            return known[self._model.graph.output[0].name]

    def extra_repr(self) -> str:
        """By which one graph is told from another."""
        return hashlib.sha256(self._model.SerializeToString(deterministic=True)).hexdigest()

    @torch.no_grad()
    def written(self) -> onnx.ModelProto:
        """The file with what was learned for its constants."""
        held = dict(self._held)
        steps = {name: self.log_steps[place].exp().cpu().numpy() for name, place in self._steps.items()}
        floats = {name: self.learned[place].cpu().numpy() for name, place in self._learned.items()}
        held |= steps | {name: array for name, array in floats.items() if held[name].dtype == np.float32}
        for layer in self._layers:
            name, bias = layer.weight.levels, floats.get(layer.bias.levels) if layer.bias else None
            store_(held, layer, floats[name], steps[layer.weight.step], self._limits[name], bias)
        return with_constants(self._model, held)

    def keep(self, source: onnx.ModelProto) -> dict[str, Tensor]:
        """Masks by parameter, True where the float file has a weight: what pruning set to zero is not learned again.

        source: the file that this one was made from, each operation called as its output.
        """
        held = constants(source.graph)
        weights = {node.output[0]: held.get(node.input[1]) for node in source.graph.node if node.op_type in HEAVY}
        # outputs get other names on the way, operations keep theirs
        names = {node.output[0]: node.name for node in self._model.graph.node}
        found = {layer.weight.levels: weights.get(names[layer.name]) for layer in self._layers}
        return {
            f"learned.{self._learned[name]}": torch.tensor(weight != 0)
            for name, weight in found.items()
            if weight is not None and weight.shape == self._held[name].shape and not weight.all()
        }

    def named_tensors(self) -> dict[str, Tensor]:
        """What was learned, by the names of the graph; steps as they are."""
        found = {name: self.learned[place].detach() for name, place in self._learned.items()}
        return found | {name: self.log_steps[place].detach().exp() for name, place in self._steps.items()}

    def _constants(self, device: torch.device) -> dict[str, Tensor]:
        """What does not depend on the input: constants as they stand, weights and biases rounded."""
        # whole numbers are shapes and axes, which are read on the CPU
        known = {name: t.to(device) if t.is_floating_point() else t for name, t in self._fixed.items()}
        known |= {name: self.log_steps[place].exp() for name, place in self._steps.items()}
        known |= {name: self.learned[place] for name, place in self._learned.items()}
        for layer, ends in zip(self._layers, self._ends(), strict=True):
            known |= self._rounded(layer, ends, known)
        return known

    def _rounded(self, layer: IntegerLayer, ends: tuple[str, str], known: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weight and bias, by the names under which the layer reads them."""
        weight, within = known[layer.weight.levels], self._limits[layer.weight.levels]
        plain = known[layer.weight.step]
        step = _along(scaled(plain, weight.numel() // plain.numel(), within[1]), layer.weight.axis, weight.ndim)
        found = {ends[0]: levels(weight, step, weight.new_zeros(()), within) * step}
        if layer.bias:
            tiny = (known[layer.input_step] * plain).detach()
            found[ends[1]] = rounded(known[layer.bias.levels] / tiny) * tiny
        return found

    def _ends(self) -> list[tuple[str, str]]:
        readers = {node.output[0]: node for node in self._model.graph.node}
        return [(node.input[1], (*node.input, "")[2]) for node in (readers[layer.name] for layer in self._layers)]

    def _run(self, node: onnx.NodeProto, knobs: Knobs, known: Mapping[str, Tensor]) -> Any:
        if node.op_type == PAIR[0]:
            return self._quantize(node, known)
        if node.op_type == PAIR[1]:
            return self._dequantize(node, knobs, known)
        return OPERATORS[node.op_type](knobs, *(known[name] if name else None for name in node.input))

    def _quantize(self, node: onnx.NodeProto, known: Mapping[str, Tensor]) -> Tensor:
        x, step, held = known[node.input[0]], known[node.input[1]], self._held[node.input[2]]
        ends, zero = np.iinfo(held.dtype), int(held)
        furthest = max(ends.max - zero, zero - ends.min)
        step = scaled(step, max(1, x[:1].numel()), furthest)
        return levels(x, step, x.new_tensor(zero), (int(ends.min), int(ends.max)))

    def _dequantize(self, node: onnx.NodeProto, knobs: Knobs, known: Mapping[str, Tensor]) -> Tensor:
        axis, found, step = knobs.get("axis", 1), known[node.input[0]], known[node.input[1]]
        zero = known[node.input[2]] if len(node.input) > 2 else torch.zeros(())
        return (found.to(step.device) - _along(zero.to(step.device), axis, found.ndim)) * _along(step, axis, found.ndim)


def _knobs(node: onnx.NodeProto) -> Knobs:
    found = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in found.items()}


def _along(tensor: Tensor, axis: int, rank: int) -> Tensor:
    return tensor if tensor.ndim == 0 else tensor.reshape([-1 if place == axis % rank else 1 for place in range(rank)])


def _shared_steps(graph: onnx.GraphProto) -> list[str]:
    """Of activations, those in which both nodes of the pair count: raw values leave in other units than they came."""
    into, out = ([node.input[1] for node in graph.node if node.op_type == kind] for kind in PAIR)
    return [step for step in into if step in set(out)]


def _floats(graph: onnx.GraphProto, held: Mapping[str, Any]) -> list[str]:
    """Weights and biases that are in float, as those of layers that were left so."""
    read = [name for node in graph.node if node.op_type in HEAVY for name in node.input[1:]]
    return [name for name in dict.fromkeys(read) if name in held and held[name].dtype == np.float32]


def _refuse_unknown(graph: onnx.GraphProto) -> None:
    unknown = sorted({node.op_type for node in graph.node} - OPERATORS.keys() - set(PAIR))
    if unknown:
        raise ValueError(
            f"quantize: the graph has {', '.join(unknown)}, which cannot be trained in integers; quantization without "
            f"training would do, or a model of {', '.join(OPERATORS)}"
        )
