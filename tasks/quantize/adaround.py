"""AdaRound: for each weight whether up or down is better for its layer's output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor
from torch.nn import functional as F

from tasks.quantize.inner import Values
from tasks.quantize.layers import Gram, layers, nearest, output_error, own, replace_, steps_of

# the paper's: how far the sigmoid is stretched beyond [0, 1], beta's first and last value, when the penalty sets in
LOW, HIGH, BETAS, WARM_UP = -0.1, 1.1, (20.0, 2.0), 0.2
LEARNING_RATE: Final = 1e-2


def adaround(
    model: onnx.ModelProto, grams: Mapping[str, Gram], *, largest: int, steps: int
) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """The model with its weights on the levels of each output that harm the layer's output least.

    grams: by weight, (groups, inputs, inputs), of the layer's inputs. largest: the greatest level, of either sign.
    An output that the nearest levels serve better keeps those.

    Returns:
        The model, and {"layers", "output_error_vs_rtn": mean over layers}.
    """
    made, constants = own(model)
    ratios = []
    for layer in layers(made.graph):
        weight = numpy_helper.to_array(constants[layer.weight])
        rows, gram = layer.rows(weight), grams[layer.weight]
        parts = [
            learned(part, one, largest=largest, steps=steps)
            for part, one in zip(np.split(rows, len(gram)), gram, strict=True)
        ]
        values = np.concatenate(parts)
        before = output_error(nearest(rows, largest) - rows, gram)
        ratios.append(output_error(values - rows, gram) / before if before > 0 else 1.0)
        replace_(constants[layer.weight], layer.stored(values, weight.shape))
    return made, {"layers": len(ratios), "output_error_vs_rtn": float(np.mean(ratios)) if ratios else 1.0}


def learned(rows: Values, gram: Gram, *, largest: int, steps: int) -> Values:
    """(outputs, inputs), each weight on one of the two levels beside it.

    rows: (outputs, inputs). gram: (inputs, inputs). The error of each output is taken as a share of what the nearest
    levels cost, so that the penalty, which drives every choice to one side, weighs alike in all layers.

    Nagel et al. 2020, arXiv:2004.10568, eq. 21 to 25.
    """
    step, plain = steps_of(rows, largest), nearest(rows, largest)
    below = np.clip(np.floor(rows / step), -largest, largest - 1)
    share = np.clip(rows / step - below, 0, 1)
    cost = torch.from_numpy(_errors(plain - rows, gram)).float().clamp_min(1e-30)
    scaled = torch.from_numpy(np.asarray(gram)).float()
    start, offset = (torch.from_numpy(np.asarray(part, np.float32)) for part in (share, step))
    choice = torch.logit((start - LOW) / (HIGH - LOW)).requires_grad_()
    optimiser = torch.optim.Adam([choice], lr=LEARNING_RATE)
    for number in range(steps):
        up = _up(choice)
        off = (up - start) * offset
        loss = ((off @ scaled * off).sum(1) / cost).sum()
        progress = (number / steps - WARM_UP) / (1 - WARM_UP)
        if progress >= 0:
            beta = BETAS[0] + (BETAS[1] - BETAS[0]) * progress
            loss = loss + (1 - (2 * up - 1).abs() ** beta).mean(1).sum()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    ups = (_up(choice) >= 0.5).numpy()
    # the largest weight sets the scale, and must not move
    ups = np.where(np.abs(rows) >= step * (largest - 1e-3), np.rint(share), ups)
    found = ((below + ups) * step).astype(np.float32)
    better = _errors(found - rows, gram) < _errors(plain - rows, gram)
    return np.where(better[:, None], found, plain)


def _up(choice: Tensor) -> Tensor:
    """How far each weight goes to the level above it, in [0, 1]."""
    return F.hardtanh(torch.sigmoid(choice) * (HIGH - LOW) + LOW, 0.0, 1.0)


def _errors(off: Values, gram: Gram) -> Gram:
    """(outputs,): mean squared error of each output."""
    errors: Gram = np.einsum("oi,oi->o", off @ gram, off.astype(np.float64))
    return errors
