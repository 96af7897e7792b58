"""How a model's layers hang together by their channels; the dependency graph is torch-pruning's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Final

import torch
import torch_pruning as tp
from torch import Tensor, nn

from tasks.prune.tracing import RefusingValues, where

TRANSPOSED: Final = (nn.ConvTranspose1d, nn.ConvTranspose2d)
PRUNED: Final = (nn.Conv1d, nn.Conv2d, nn.Linear, *TRANSPOSED)
OUTPUTS: Final = (tp.prune_conv_out_channels, tp.prune_linear_out_channels, tp.prune_depthwise_conv_out_channels)
INPUTS: Final = (tp.prune_conv_in_channels, tp.prune_linear_in_channels)

Tied = nn.Conv1d | nn.Conv2d | nn.Linear | nn.ConvTranspose1d | nn.ConvTranspose2d


class Graph:
    """Traced once; it stays right while channels are cut through it.

    Raises:
        ValueError: the architecture cannot be traced.
    """

    def __init__(self, model: nn.Module, input_shape: Sequence[int]) -> None:
        self.model, self.input_shape = model, input_shape
        training = model.training
        self.dependencies = _traced(model, input_shape)
        model.train(training)

    def group(self, name: str, channels: Sequence[int]) -> Any:
        """Output channels of layer `name` with all that must be cut along with them."""
        layer = self.model.get_submodule(name)
        out = tp.prune_linear_out_channels if isinstance(layer, nn.Linear) else tp.prune_conv_out_channels
        return self.dependencies.get_pruning_group(layer, out, idxs=sorted(channels))

    def cut_(self, name: str, channels: Sequence[int]) -> None:
        """Cut them; the layers become smaller in place.

        Raises:
            ValueError: a layer would be left empty.
        """
        group = self.group(name, channels)
        if not self.dependencies.check_pruning_group(group):
            raise ValueError(f"prune: cutting {len(channels)} channels of {name} would leave a layer empty")
        group.prune()


def role(item: Any) -> str | None:
    """What a layer has to do with a group's channels: it makes them, scales them, or reads them."""
    layer, cut = item.dep.target.module, item.dep.handler
    if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
        return "scales"
    if not isinstance(layer, PRUNED):
        return None
    return "makes" if cut in OUTPUTS else "reads" if cut in INPUTS else None


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


def called(
    model: nn.Module, input_shape: Sequence[int], kinds: tuple[type[nn.Module], ...] = PRUNED
) -> list[nn.Module]:
    """Convolutions and linear layers, or those of `kinds`, in the order in which they run; one can run several times.

    The last convolution or linear layer gives the output.
    """
    found: list[nn.Module] = []
    handles = [
        module.register_forward_hook(lambda layer, *_: found.append(layer))
        for module in model.modules()
        if isinstance(module, kinds)
    ]
    training = model.training
    with torch.no_grad():
        model.eval()(torch.zeros(2, *input_shape))
    model.train(training)
    for handle in handles:
        handle.remove()
    return found


def layers(model: nn.Module, input_shape: Sequence[int]) -> dict[str, Layer]:
    """The model's convolutions and linear layers that run, by name."""
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
        name: Layer(module, *shape_of(module), tuple(shapes[module]), positions[module])
        for name, module in model.named_modules()
        if isinstance(module, Tied) and module in shapes
    }


def shape_of(layer: Tied) -> tuple[int, int]:
    """Inputs, of a layer in groups those of one, and outputs."""
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    return layer.in_channels // layer.groups, layer.out_channels


def cell(layer: Tied) -> int:
    """Weights per pair of an input and an output."""
    return prod(layer.weight.shape[2:])


def check_runs(model: nn.Module, input_shape: Sequence[int], name: str) -> None:
    """Whether the model still runs, in eval mode, after something of the layer `name` was cut; its mode stays.

    Raises:
        ValueError: it does not; the message says why.
    """
    training = model.training
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(2, *input_shape))
    except (RuntimeError, ValueError, IndexError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"prune: without what was cut of {name} the model no longer runs ({reason}); add it to prune.ignore"
        ) from None
    finally:
        model.train(training)


def _traced(model: nn.Module, input_shape: Sequence[int]) -> Any:
    # torch-pruning follows autograd, so every parameter must ask for a gradient
    model.eval()
    inputs = torch.zeros(2, *input_shape)
    try:
        with RefusingValues(inputs):
            outputs = model(inputs)
        if _fills_by_parts(outputs):
            raise ValueError("it writes into part of a tensor, as circular padding does")
        return tp.DependencyGraph().build_dependency(model, example_inputs=inputs, verbose=False)
    except (RuntimeError, ValueError, KeyError, AttributeError, TypeError, AssertionError, IndexError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        if place := where(error, model):
            reason = f"{place}: {reason}"
        raise ValueError(f"prune: the model cannot be traced ({reason}); use pattern unstructured for it") from None


def _fills_by_parts(outputs: Tensor) -> bool:
    """Whether a tensor on the way is filled part by part, where torch-pruning goes round in circles for ever."""
    waiting, seen = [outputs.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        if node.name().endswith("CopySlices"):
            return True
        seen.add(node)
        waiting += [following for following, _ in node.next_functions]
    return False
