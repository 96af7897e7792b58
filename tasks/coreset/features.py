"""What samples look like to a selection: raw inputs, or the last hidden layer of a small network trained for it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tasks import checkpoint
from tasks.data.batches import Samples, in_order
from tasks.data.splits import Splits, moments
from tasks.params import Factory, Proxy, Train
from tasks.training.loop import fit_

Features = npt.NDArray[np.float64]


def raw_features(data: Splits) -> Features:
    """(n, d): the training inputs, standardised and flattened."""
    mean, deviation = moments(data.train)
    scale = torch.where(deviation > 0, 1 / deviation.clamp_min(1e-12), 0.0)
    parts = [((inputs - mean) * scale).flatten(1).double().numpy() for inputs, _ in in_order(data.train)]
    return np.concatenate(parts)


def proxy_features(data: Splits, proxy: Proxy, seed: int) -> Features:
    """(n, d): a small network's input to its last layer, after `proxy.epochs` on the training split.

    Coleman et al. 2020, arXiv:1906.11829: features of a far smaller network select as well as the target's own.
    """
    if data.card.kind == "image":
        sizes: dict[str, object] = {"channels": [proxy.width, 2 * proxy.width], "strides": [2, 2]}
        factory = "tasks.models.cnn:CNN"
    else:
        sizes, factory = {"hidden": [proxy.width, proxy.width]}, "tasks.models.mlp:MLP"
    model = checkpoint.build(
        Factory.model_validate({"factory": factory, "args": sizes}),
        data.card,
        moments(data.train),
        seed,
        "coreset.proxy",
    )
    fit_(model, data.train, data.validation, Train(epochs=proxy.epochs), seed=seed, series="proxy")
    head = model.model.head
    assert isinstance(head, nn.Module)
    return _inputs_of(model, head, data.train)


@torch.no_grad()
def _inputs_of(model: nn.Module, layer: nn.Module, samples: Samples) -> Features:
    parts: list[Tensor] = []
    handle = layer.register_forward_pre_hook(lambda _, inputs: parts.append(inputs[0].double()))
    for inputs, _ in in_order(samples):
        model(inputs)
    handle.remove()
    return torch.cat(parts).numpy()
