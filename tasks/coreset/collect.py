"""What the selection goes by: raw inputs, or one training of a small network."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tasks.coreset.evidence import Evidence, Features, Indices
from tasks.coreset.kept import kept_evidence
from tasks.coreset.proxies import ARCHITECTURES, network, step_
from tasks.coreset.scores import own_margin
from tasks.data.augment import generator_of
from tasks.data.batches import Samples, in_order, shuffled, steps_per_epoch
from tasks.data.splits import Splits, moments
from tasks.device import device, moved
from tasks.models.normalised import Normalised
from tasks.params import Proxy, Train
from tasks.training.optimizer import learning_rate, make_optimizer
from tasks.training.scratch import Scratch, hashed

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Seen:
    """hidden: (n, d), input of the last layer; probabilities: (n, classes)."""

    hidden: Features
    probabilities: npt.NDArray[np.float32]


def collect(
    data: Splits,
    features: Literal["proxy", "raw"],
    proxy: Proxy,
    seed: int,
    *,
    dynamics: bool,
    scratch: Scratch | None = None,
) -> Evidence:
    """The features asked for, and with `dynamics` how a proxy learned; kept in `scratch` for other methods and runs."""
    if features == "raw" and not dynamics:
        return Evidence(raw_features(data), data.train.targets(slice(None)).numpy())
    start = time.perf_counter()
    parts = [data.train.indices.tobytes(), data.validation.indices.tobytes(), device().type.encode()]
    identity = hashed([*parts, f"{proxy.model_dump_json()} {seed}".encode()])
    evidence, known = kept_evidence(
        scratch, identity, lambda: proxy_evidence(data, proxy, seed, dynamics=dynamics), dynamics=dynamics
    )
    done = "kept by an earlier run" if known else f"trained for {proxy.epochs} epochs"
    log.info("coreset: proxy %s, %.1f s", done, time.perf_counter() - start)
    return evidence if features == "proxy" else replace(evidence, features=raw_features(data))


def raw_features(data: Splits) -> Features:
    """(n, d): the training inputs, standardised and flattened."""
    # an input that is not finite must not spread over its whole column: the check names the samples that have one
    mean, deviation = (torch.nan_to_num(moment, 0.0, 0.0, 0.0) for moment in moments(data.train))
    scale = torch.where(deviation > 0, 1 / deviation.clamp_min(1e-12), 0.0)
    features = np.empty((len(data.train), int(np.prod(data.train.shape))), np.float32)
    start = 0
    for inputs, _ in in_order(data.train):
        features[start : start + len(inputs)] = ((inputs - mean) * scale).flatten(1).numpy()
        start += len(inputs)
    return features


def proxy_evidence(data: Splits, proxy: Proxy, seed: int, *, dynamics: bool) -> Evidence:
    """Train a small network and note what a selection may ask for; without `dynamics`, its last hidden layer alone.

    Coleman et al. 2020, arXiv:1906.11829: a far smaller network selects as well as the target itself. The training is
    that of tasks.training.loop.fit_, which has no place to look at the samples between epochs.

    Raises:
        ValueError: the loss is no longer finite.
    """
    model = network(data, next(iter(ARCHITECTURES[data.card.kind])), proxy.width, seed, "coreset.proxy")
    train = Train(epochs=proxy.epochs)
    optimizer = make_optimizer(model.parameters(), train)
    labels = data.train.targets(slice(None)).numpy()
    early, rights, margins = None, [], []
    for epoch in range(proxy.epochs):
        _epoch_(model, optimizer, data.train, train, epoch, seed)
        if dynamics:
            seen = _look(model, data.train)
            rights.append(seen.probabilities.argmax(1) == labels)
            margins.append(own_margin(seen.probabilities, labels).astype(np.float16))
            early = seen if epoch + 1 == proxy.early else early
    if early is None:
        return Evidence(_look(model, data.train).hidden, labels)
    return Evidence(
        seen.hidden,
        labels,
        probabilities=early.probabilities,
        hidden_norms=np.sqrt(np.square(early.hidden).sum(1) + 1),
        right=np.stack(rights),
        margins=np.stack(margins),
        recalls=_recalls(model, data.validation, rights[-1], labels),
    )


def _epoch_(
    model: Normalised, optimizer: torch.optim.Optimizer, samples: Samples, train: Train, epoch: int, seed: int
) -> None:
    model.train()
    steps = steps_per_epoch(samples, train.batch_size)
    for step, positions in enumerate(shuffled(samples, train.batch_size, generator_of(seed, epoch))):
        rate = learning_rate(epoch * steps + step, train.epochs * steps, train)
        loss = step_(model, optimizer, samples, positions, rate)
        if not bool(loss.isfinite()):
            raise ValueError(f"coreset.proxy: the loss is {float(loss)} in epoch {epoch + 1}; set features: raw")


@torch.no_grad()
def _look(model: Normalised, samples: Samples) -> Seen:
    head = model.eval().model.head
    assert isinstance(head, nn.Module)
    hidden: list[Tensor] = []
    handle = head.register_forward_pre_hook(lambda _, inputs: hidden.append(inputs[0].float().cpu()))
    logits = [model(moved(inputs, device())).float().cpu() for inputs, _ in in_order(samples)]
    handle.remove()
    return Seen(torch.cat(hidden).numpy(), torch.cat(logits).softmax(1).numpy())


def _recalls(
    model: Normalised, validation: Samples, right: npt.NDArray[np.bool_], labels: Indices
) -> npt.NDArray[np.float64]:
    """(classes,): on the validation split, or on the training split if a class is missing from that."""
    targets = validation.targets(slice(None)).numpy()
    classes = len(np.bincount(labels))
    if (np.bincount(targets, minlength=classes) > 0).all():
        right, labels = _look(model, validation).probabilities.argmax(1) == targets, targets
    sizes = np.bincount(labels, minlength=classes)
    return np.bincount(labels, right, classes) / np.maximum(sizes, 1)
