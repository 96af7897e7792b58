"""Which layers go without bits: the one first that costs the least harm for each byte it saves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import onnx

from tasks.quantize.judge import Judge

Build = Callable[[frozenset[str]], onnx.ModelProto]


@dataclass(frozen=True)
class Sensitivity:
    """What one layer alone, made cheap, adds to the harm (nats) and saves, and whether it stayed so at last."""

    layer: str
    harm: float
    saved_bytes: int
    cheap: bool


def assign(saved_bytes: Mapping[str, int], build: Build, judge: Judge) -> tuple[onnx.ModelProto, list[Sensitivity]]:
    """The file with as many cheap layers as together lose no more than the judge allows, and what was measured.

    Greedy: in the order of harm by byte saved, each layer joins those already cheap, and stays if that is inside.
    Where not even a file without cheap layers is inside, that is what is left.

    saved_bytes: by layer, what making it cheap saves. build: the file with these layers cheap.
    """
    before = judge(build(frozenset())).harm
    harm = {layer: judge(build(frozenset([layer]))).harm - before for layer in saved_bytes}
    order = sorted(saved_bytes, key=lambda layer: (max(0.0, harm[layer]) / saved_bytes[layer], layer))
    chosen: frozenset[str] = frozenset()
    for layer in order:
        if judge(build(chosen | {layer})).inside:
            chosen |= {layer}
    return build(chosen), [Sensitivity(layer, harm[layer], saved_bytes[layer], layer in chosen) for layer in order]
