"""Which type of activations runs faster here: decided once, before anything is searched or trained."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, TypeVar

import numpy as np
import onnx

from tasks.data.batches import Samples
from tasks.data.splits import Splits
from tasks.measure.integers import integer_op_share, operations
from tasks.measure.runtime import Call, open_onnxruntime
from tasks.measure.timing import Runs, speedup, take_turns
from tasks.params import Activation, MinMax, Rtn, StaticInt8
from tasks.quantize.schemes import prepared
from tasks.quantize.trained import kind
from tasks.training.distributed import agreed, join

log = logging.getLogger(__name__)
Own = TypeVar("Own", bound=StaticInt8)
ROUNDS, RUNS, BATCH, BATCH_RUNS = 30, 10, 32, 1
SAMPLES: Final = 64  # that calibrate the files that are timed: no time hangs on their ranges
MARGIN: Final = 1.05


@dataclass(frozen=True)
class Faster:
    """How many times as fast signed activations are as unsigned ones, with the 95 % interval; never an output.

    Shares as integer_op_share.
    """

    batch: int
    unsigned_ms: float
    signed_ms: float
    speedup: float
    speedup_low95: float
    speedup_high95: float
    unsigned_integer_share: float
    signed_integer_share: float


def settled(model: onnx.ModelProto, params: Own, data: Splits, seed: int) -> tuple[Own, list[Faster]]:
    """The params with the faster type in the place of `activation: auto`, and what was measured to choose it.

    Speed does not depend on what weights and ranges are, so plain files of the same network decide for all that will
    be made of it: rounded to the nearest, ranges of a few samples. Of several processes the first decides.
    """
    if params.activation != "auto":
        return params, []
    start = time.perf_counter()
    update = {"calibration": MinMax(method="min_max", samples=SAMPLES), "rounding": Rtn(method="rtn")}
    build, _ = prepared(model, params.model_copy(update={**update, "correct_bias": False}), data, seed)
    types: tuple[Activation, ...] = ("unsigned", "signed")
    own, found = faster({name: build(kind(params), activation=name) for name in types}, data.validation)
    join()
    chosen = agreed(own)
    log.info(
        "quantize: activations are %s; signed ones are %s, %.0f %% of the operations in integers, not %.0f %%, %.1f s",
        chosen,
        " and ".join(f"{row.speedup:.2f} times as fast at batch {row.batch}" for row in found),
        *(100 * share for share in (found[0].signed_integer_share, found[0].unsigned_integer_share)),
        time.perf_counter() - start,
    )
    return params.model_copy(update={"activation": chosen}), found


def faster(models: Mapping[Activation, onnx.ModelProto], samples: Samples) -> tuple[Activation, list[Faster]]:
    """The type whose file is faster on one thread; the files take turns.

    Signed only where at batch 1 and at a larger one the gain is beyond MARGIN with all of its interval, since between
    equals chance would choose, in one run so and in the next otherwise; and where no fewer operations are in integers:
    what the runtime has no signed kernel for it runs in float, and that may be the gain.
    """
    with TemporaryDirectory() as folder:
        calls = dict[str, Call]()
        for name, model in models.items():
            path = Path(folder) / f"{name}.onnx"
            onnx.save(model, path)
            calls[name] = open_onnxruntime(path)
        shares = {name: integer_op_share(operations(Path(folder) / f"{name}.onnx")) for name in models}
        batch = samples.first(BATCH, 0).inputs(slice(None)).numpy()
        runs = take_turns(calls, batch, ROUNDS, RUNS, BATCH_RUNS)
    found = _compared(runs["unsigned"], runs["signed"], (shares["unsigned"], shares["signed"]))
    surely = all(row.speedup_low95 > MARGIN for row in found)
    return "signed" if surely and shares["signed"] >= shares["unsigned"] else "unsigned", found


def _compared(unsigned: Runs, signed: Runs, shares: tuple[float, float]) -> list[Faster]:
    """At batch 1, and at the larger batch."""
    found = []
    for batch, before, after in ((1, unsigned.single, signed.single), (signed.batch, unsigned.whole, signed.whole)):
        ratio, low, high = speedup(after, before)
        unsigned_ms, signed_ms = (1000 * float(np.median(seconds)) for seconds in (before, after))
        found.append(Faster(batch, unsigned_ms, signed_ms, ratio, low, high, *shares))
    return found
