"""One file for every processor: what it answers where two products overflow 16 bits, and weights that cannot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import onnx

from tasks.data.batches import Samples, in_order
from tasks.quantize.emulation import Emulator
from tasks.quantize.int8 import Weights
from tasks.quantize.products import ARITHMETICS

TOLERATED: Final = 0.001  # accuracy that a processor may cost


def accuracies(model: onnx.ModelProto, samples: Samples) -> dict[str, float]:
    """Share of right answers by each arithmetic of ARITHMETICS, emulated."""
    targets = samples.targets(slice(None)).numpy()
    found: dict[str, float] = {}
    for arithmetic in ARITHMETICS:
        emulator = Emulator(model, arithmetic)
        labels = [emulator.run(inputs.numpy()).argmax(1) for inputs, _ in in_order(samples)]
        found[arithmetic] = float((np.concatenate(labels) == targets).mean())
    return found


def portable(
    build: Callable[[Weights], onnx.ModelProto], samples: Samples, remedies: Sequence[Weights] = ("reduced", "unsigned")
) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """The model with eight-bit weights where no processor loses by them, else with weights that none can saturate.

    Those are seven bits, as fast as eight, unless unsigned bytes are worth more accuracy than is tolerated: they are
    exact everywhere and slow on processors with VNNI. Among the remedies "reduced" must be.

    Returns:
        The model, and {"samples", "weights": those chosen, "accuracy": by weights tried and arithmetic}.
    """
    built = {"signed": build("signed")}
    found = {"signed": accuracies(built["signed"], samples)}
    chosen: Weights = "signed"
    if found["signed"]["s8s8"] - found["signed"]["u8s8_saturating"] > TOLERATED:
        for name in remedies:
            built[name] = build(name)
            found[name] = accuracies(built[name], samples)
        worst = {name: min(found[name].values()) for name in remedies}
        chosen = next((name for name in remedies if worst[name] - worst["reduced"] > TOLERATED), "reduced")
    return built[chosen], {"samples": len(samples), "weights": chosen, "accuracy": found}
