"""Probabilities that can be trusted: a temperature in the file that ships."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from scipy.special import softmax

from tasks.data.batches import Samples
from tasks.export.slim import slim
from tasks.export.temperature import scale_logits_
from tasks.measure.confidence import confidence
from tasks.measure.runtime import open_session, run
from tasks.measure.temperature import fit_temperature


def calibrate_(path: Path, validation: Samples) -> dict[str, float]:
    """Put into the file the temperature at which its probabilities fit the validation split best; what it changed."""
    targets = validation.targets(slice(None)).numpy()
    logits = run(open_session(path), validation).astype(np.float64)
    temperature = fit_temperature(logits, targets)
    model = onnx.load(path)
    scale_logits_(model, temperature)
    onnx.save(slim(model), path)
    before, after = (confidence(targets, softmax(logits / t, axis=1)) for t in (1.0, temperature))
    return {
        "temperature": temperature,
        "samples": len(targets),
        "nll_before": before.nll,
        "nll_after": after.nll,
        "ece_before": before.ece,
        "ece_after": after.ece,
    }
