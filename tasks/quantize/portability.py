"""One file for every processor: what it answers where two products overflow 16 bits, and weights that cannot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import onnx

from tasks.data.batches import Samples, in_order
from tasks.quantize.emulation import Emulator
from tasks.quantize.int8 import Weights
from tasks.quantize.products import ARITHMETICS, Arithmetic

TOLERATED: Final = 0.001  # accuracy that a processor may cost
MOVED: Final = 0.01  # of their spread, by which it may move the answers: no more than quantization itself


def emulated(model: onnx.ModelProto, samples: Samples) -> tuple[dict[Arithmetic, float], float]:
    """Share of right answers by each arithmetic of ARITHMETICS, and how far saturation moves the answers.

    That is the mean over all samples and classes, in standard deviations of the exact answers.
    """
    targets = samples.targets(slice(None)).numpy()
    batches = [inputs.numpy() for inputs, _ in in_order(samples)]
    answers = {kind: np.concatenate(list(map(Emulator(model, kind).run, batches))) for kind in ARITHMETICS}
    accuracy = {kind: float((found.argmax(1) == targets).mean()) for kind, found in answers.items()}
    exact, cut_off = answers["s8s8"], answers["u8s8_saturating"]
    moved = float(np.abs(cut_off - exact).mean())
    return accuracy, moved / max(float(exact.std()), 1e-12)


def portable(
    build: Callable[[Weights], onnx.ModelProto], samples: Samples, remedies: Sequence[Weights] = ("reduced", "unsigned")
) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """The model with eight-bit weights where all processors answer alike, else with weights that none can saturate.

    Answers that move are not alike though as many are right: what is proven here would not hold there. Those other
    weights are seven bits, as fast as eight, unless unsigned bytes are worth more accuracy than is tolerated: they are
    exact everywhere and slow on processors with VNNI. Among the remedies "reduced" must be.

    Returns:
        The model, and {"samples", "weights": those chosen, "accuracy": by weights tried and arithmetic, "moved": by
        weights tried}.
    """
    built = {"signed": build("signed")}
    found, moved = {}, {}
    found["signed"], moved["signed"] = emulated(built["signed"], samples)
    chosen: Weights = "signed"
    if found["signed"]["s8s8"] - found["signed"]["u8s8_saturating"] > TOLERATED or moved["signed"] > MOVED:
        for name in remedies:
            built[name] = build(name)
            found[name], moved[name] = emulated(built[name], samples)
        worst = {name: min(found[name].values()) for name in remedies}
        chosen = next((name for name in remedies if worst[name] - worst["reduced"] > TOLERATED), "reduced")
    return built[chosen], {"samples": len(samples), "weights": chosen, "accuracy": found, "moved": moved}
