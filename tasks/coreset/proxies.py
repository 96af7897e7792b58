"""Small networks that stand in for the student: what they are, and one step of their learning."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

from tasks import checkpoint
from tasks.data.batches import Indices, Samples
from tasks.data.splits import Splits, moments
from tasks.device import device, moved
from tasks.models.normalised import Normalised
from tasks.params import Factory


def _cnn(width: int) -> Factory:
    return Factory(factory="tasks.models.cnn:CNN", args={"channels": [width, 2 * width], "strides": [2, 2]})


def _resnet(width: int) -> Factory:
    # as many operations as the CNN has, in layers narrower and more
    return Factory(factory="tasks.models.resnet:ResNet", args={"widths": [max(width // 4, 1), max(width // 2, 1)]})


def _mlp(width: int) -> Factory:
    return Factory(factory="tasks.models.mlp:MLP", args={"hidden": [width, width]})


def _wide_mlp(width: int) -> Factory:
    return Factory(factory="tasks.models.mlp:MLP", args={"hidden": [4 * width]})


# by kind of data, from a width; the first of each is the one that supplies the evidence
ARCHITECTURES: Final[Mapping[str, Mapping[str, Callable[[int], Factory]]]] = {
    "image": {"cnn": _cnn, "resnet": _resnet},
    "tabular": {"mlp": _mlp, "wide_mlp": _wide_mlp},
}


def network(data: Splits, architecture: str | Factory, width: int, seed: int, field: str) -> Normalised:
    """A fresh one on the device, inputs normalised as the training split asks; field: for messages.

    architecture: a name in ARCHITECTURES, built of this width, or any network.
    """
    if isinstance(architecture, str):
        architecture = ARCHITECTURES[data.card.kind][architecture](width)
    model = checkpoint.build(architecture, data.card, moments(data.train), seed, field)
    # torch's stubs do not know that a module can change its layout
    return model.to(device(), memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def step_(
    model: Normalised, optimizer: torch.optim.Optimizer, samples: Samples, positions: Indices, rate: float
) -> Tensor:
    """One step of cross-entropy on these samples; returns the loss, and does nothing where it is not finite."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    logits = model(moved(samples.inputs(positions), device()))
    loss = F.cross_entropy(logits, samples.targets(positions).to(device()))
    if bool(loss.isfinite()):
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return loss.detach()
