"""What a PyTorch model answers, and how often it is right. The files that ship are judged by measure/runtime.py."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tasks.data.batches import Samples, classes_of, in_order
from tasks.device import autocast, moved


@torch.no_grad()
def logits(model: nn.Module, samples: Samples, precision: str = "float32") -> Tensor:
    """(len(samples), classes), float32, in the order of the samples' indices; the model's mode is restored."""
    target = next((p.device for p in model.parameters()), torch.device("cpu"))
    training = model.training
    model.eval()
    parts = []
    with autocast(precision, target):
        for inputs, _ in in_order(samples):
            parts.append(model(moved(inputs, target)).float().cpu())
    model.train(training)
    return torch.cat(parts)


def accuracy(model: nn.Module, samples: Samples, precision: str = "float32") -> float:
    """Share of right answers, in [0, 1]; of probabilities, the likeliest class is right."""
    targets = classes_of(samples.targets(slice(None)))
    return float((logits(model, samples, precision).argmax(1) == targets).float().mean())


def score(model: nn.Module, samples: Samples, precision: str = "float32") -> float:
    """Accuracy where the targets are classes; where they are numbers, the share of their variance explained (R^2)."""
    targets = samples.targets(slice(None))
    if not targets.is_floating_point():
        return accuracy(model, samples, precision)
    answers = logits(model, samples, precision)[:, 0]
    return 1 - float((answers - targets).square().sum() / (targets - targets.mean()).square().sum().clamp_min(1e-12))


def loss_and_accuracy(model: nn.Module, samples: Samples) -> tuple[float, float]:
    """Mean cross-entropy and share of right answers."""
    answers, targets = logits(model, samples), samples.targets(slice(None))
    return float(F.cross_entropy(answers, targets)), float((answers.argmax(1) == targets).float().mean())
