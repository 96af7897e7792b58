"""Activation ranges: what values each tensor took, and which range of them eight bits should cover."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
import numpy.typing as npt
import onnx

from tasks.quantize.inner import Values, inner_values

Range = tuple[float, float]
LEVELS: Final = 256
BINS: Final = 2048
# how far the outermost values may be cut off: from not at all to nine tenths of the range
SHRINKS: Final = np.linspace(1.0, 0.1, 91)


@dataclass(frozen=True)
class Histogram:
    """counts: (bins,), of values between low and high in equal steps; the range always holds zero."""

    counts: npt.NDArray[np.int64]
    low: float
    high: float

    @property
    def centres(self) -> npt.NDArray[np.float64]:
        """(bins,), the middle of each bin."""
        step = (self.high - self.low) / len(self.counts)
        middles: npt.NDArray[np.float64] = self.low + step * (np.arange(len(self.counts), dtype=np.float64) + 0.5)
        return middles


def mirrored(histogram: Histogram) -> Histogram:
    """The same values between bounds equally far from zero, for a grid without zero point."""
    reach = max(-histogram.low, histogram.high)
    counts, _ = np.histogram(histogram.centres, 2 * len(histogram.counts), (-reach, reach), weights=histogram.counts)
    return Histogram(np.rint(counts).astype(np.int64), -reach, reach)


def min_max(histogram: Histogram) -> Range:
    """Everything that was seen."""
    return histogram.low, histogram.high


def percentile(histogram: Histogram, *, percentile: float = 99.99) -> Range:
    """All but the outermost share on each side."""
    cumulated = np.cumsum(histogram.counts) / histogram.counts.sum()
    edges = np.linspace(histogram.low, histogram.high, len(histogram.counts) + 1)
    low = float(edges[np.searchsorted(cumulated, 1 - percentile / 100, side="right")])
    high = float(edges[np.searchsorted(cumulated, percentile / 100) + 1])
    return min(low, 0.0), max(high, 0.0)


def mse(histogram: Histogram) -> Range:
    """The range whose rounding and clipping together cost the least squared error."""
    return _search(histogram, _squared_error)


def entropy(histogram: Histogram) -> Range:
    """The range whose 256 levels keep the most of the distribution (Migacz 2017, TensorRT's calibrator)."""
    return _search(histogram, _divergence)


def observe(model: onnx.ModelProto, batches: Callable[[], Iterable[Values]]) -> dict[str, Histogram]:
    """Run the model twice over the batches and count what every float tensor held, the input included.

    Raises:
        ValueError: a tensor is not finite.
    """
    names = [model.graph.input[0].name, *_floats(model)]
    lows, highs = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
    for tensors in inner_values(model, names, batches()):
        for name, values in tensors.items():
            # numpy's minimum keeps NaN, Python's min drops it
            lows[name] = float(np.minimum(lows[name], values.min()))
            highs[name] = float(np.maximum(highs[name], values.max()))
    if broken := [name for name in names if not np.isfinite([lows[name], highs[name]]).all()]:
        raise ValueError(f"quantize.calibration: tensor {broken[0]} is not finite on the calibration samples")
    counts = {name: np.zeros(BINS, np.int64) for name in names}
    for tensors in inner_values(model, names, batches()):
        for name, values in tensors.items():
            if highs[name] > lows[name]:
                counts[name] += np.histogram(values, BINS, (lows[name], highs[name]))[0]
    return {name: Histogram(counts[name], lows[name], highs[name]) for name in names if highs[name] > lows[name]}


def _floats(model: onnx.ModelProto) -> list[str]:
    """Every float tensor that a node makes, as far as shapes were inferred."""
    infos = [*model.graph.value_info, *model.graph.output]
    return [info.name for info in infos if info.type.tensor_type.elem_type == onnx.TensorProto.FLOAT]


def _search(histogram: Histogram, cost: Callable[[Histogram, float, float], float]) -> Range:
    ranges = [(float(histogram.low * shrink), float(histogram.high * shrink)) for shrink in SHRINKS]
    return min(ranges, key=lambda pair: cost(histogram, *pair))


def _levels(histogram: Histogram, low: float, high: float) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """(bins,): the level each bin rounds to, and that level's value; the same grid that the runtime uses."""
    scale = (high - low) / (LEVELS - 1)
    zero = round(-low / scale)
    levels = np.clip(np.round(histogram.centres / scale) + zero, 0, LEVELS - 1).astype(np.int64)
    return levels, (levels - zero).astype(np.float64) * scale


def _squared_error(histogram: Histogram, low: float, high: float) -> float:
    _, values = _levels(histogram, low, high)
    return float((histogram.counts * np.square(histogram.centres - values)).sum())


def _divergence(histogram: Histogram, low: float, high: float) -> float:
    """KL divergence of the levels' distribution, each spread evenly over its occupied bins, from the clipped one."""
    inside = (histogram.centres >= low) & (histogram.centres <= high)
    clipped = np.where(inside, histogram.counts, 0).astype(float)
    first, last = np.flatnonzero(inside)[[0, -1]]
    clipped[first] += histogram.counts[:first].sum()
    clipped[last] += histogram.counts[last + 1 :].sum()
    levels, _ = _levels(histogram, low, high)
    seen = np.where(inside, histogram.counts, 0)  # what a level holds before outliers are pushed onto the edge
    mass = np.bincount(levels, weights=seen, minlength=LEVELS)
    occupied = np.bincount(levels, weights=(clipped > 0) & inside, minlength=LEVELS)
    spread = np.where(clipped > 0, mass[levels] / np.maximum(occupied[levels], 1), 0)
    p, q = clipped / clipped.sum(), spread / max(spread.sum(), 1)
    both = p > 0
    return float((p[both] * np.log(p[both] / np.maximum(q[both], 1e-12))).sum())


def chooser(method: str, knobs: Mapping[str, float]) -> Callable[[Histogram], Range]:
    """The method of CALIBRATIONS with its knobs filled in."""
    return partial(CALIBRATIONS[method], **knobs)


CALIBRATIONS: Final[Mapping[str, Callable[..., Range]]] = {
    "min_max": min_max,
    "percentile": percentile,
    "entropy": entropy,
    "mse": mse,
}
