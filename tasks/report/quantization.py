"""What runs in integers and what does not, as the report says it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from tasks.report.wording import DASH, percent, points, significant

WEIGHTS: Final = {"signed": "8 bits", "reduced": "7 bits", "unsigned": "8 bits, unsigned"}
COUNTED: Final = {
    "equalised_pairs": "Pairs of layers that share their scale evenly",
    "smoothed_products": "Products whose difficult input moved into the weights",
    "corrected_layers": "Layers whose mean output was put back",
}
BY_SPEED: Final = {
    "signed": "which are faster where this was made",
    "unsigned": "as signed ones are not clearly faster where this was made, or only for leaving more in float",
}
MOST_NAMES: Final = 8
ARITHMETICS: Final = ("u8s8_saturating", "s8s8")


def quantization_section(found: Mapping[str, Any]) -> dict[str, Any] | None:
    """The answer, the operations and the portability of quantization.json; None where there is none."""
    operations = found.get("operations")
    if operations is None:
        return None
    integer = sum(operation["arithmetic"] == "integer" for operation in operations)
    share = percent(integer / len(operations), 0) if operations else percent(1.0, 0)
    return {
        "answer": f"{integer} of {len(operations)} convolutions and matrix products, {share}",
        "scheme": found["scheme"],
        "operations": [(entry["name"], entry["arithmetic"], entry["reason"]) for entry in operations],
        "calibration": ", ".join(f"{name} {count}" for name, count in found.get("calibration", {}).items()),
        "steps": _steps(found),
        "portability": _portability(found["portability"]) if "portability" in found else None,
        "ladder": _ladder(found["ladder"]) if "ladder" in found else None,
        "layers": _layers(found["sensitivity"]) if "sensitivity" in found else None,
        "training": _training(found["training"]) if "training" in found else None,
    }


def _steps(found: Mapping[str, Any]) -> list[str]:
    """What was done to the weights and activations, a sentence each, in the order in which it is done."""
    steps = [f"{sentence}: {found[key]}." for key, sentence in COUNTED.items() if found.get(key)]
    steps += [
        f"AdaRound, levels up to {largest}: {_left(own)}." for largest, own in (found.get("adaround") or {}).items()
    ]
    if gptq := found.get("gptq"):
        kept = f"; the nearest levels served better in {_named(gptq['kept_rtn'])}" if gptq["kept_rtn"] else ""
        steps.append(f"GPTQ: {_left(gptq)}{kept}.")
    if bits := found.get("weight_bits"):
        counts = Counter(bits.values())
        said = ", ".join(f"{layers} in {own}" for own, layers in sorted(counts.items()))
        steps.append(f"Layers by the bits of their weights: {said}.")
    if activation := found.get("activation"):
        measured = f", {BY_SPEED[activation['type']]}" if activation.get("measured") else ""
        steps.append(f"Activations: {activation['type']}{measured}.")
    if in_float := found.get("in_float"):
        steps.append(f"Left in float: {_named(in_float)}.")
    if temperature := found.get("temperature"):
        steps.append(f"Logits divided by {significant(temperature['temperature'])}, so that they are calibrated.")
    return steps


def _left(found: Mapping[str, Any]) -> str:
    """Over how many layers, and the error of their outputs that is left of what the nearest levels cost."""
    return f"{found['layers']} layers, {percent(found['output_error_vs_rtn'], 1)} of the nearest levels' output error"


def _named(layers: Sequence[str]) -> str:
    return ", ".join(layers[:MOST_NAMES]) + (f" and {len(layers) - MOST_NAMES} more" if layers[MOST_NAMES:] else "")


def _ladder(found: Mapping[str, Any]) -> dict[str, Any]:
    """Which rung was taken, and a row for each that was tried."""
    return {
        "answer": f"{found['chosen']}, of {len(found['rungs'])} tried",
        "allowed": _allowed(found),
        "rows": [
            (
                rung["rung"],
                percent(rung["accuracy"]),
                points(rung["accuracy_drop"], signed=True),
                points(rung["accuracy_drop_upper95"]),
                f"{rung['size_bytes']:,}",
                percent(rung["integer_op_share"], 0),
                "yes" if rung["inside"] else "no",
                "yes" if rung["rung"] == found["chosen"] else DASH,
            )
            for rung in found["rungs"]
        ],
    }


def _allowed(found: Mapping[str, Any]) -> str:
    """Which rung is inside, as a sentence."""
    if limits := found.get("limits"):
        recall = limits["class_recall_drop"]
        classes = "" if recall is None else f", and no class more than {points(recall)} pp of recall"
        return (
            "Drops are against the teacher; the first rung inside the budget is taken: it loses at most "
            f"{points(limits['accuracy_drop'])} pp with 95 % confidence{classes}, or no more than the float file."
        )
    return (
        f"Drops are against the float file; the first rung that loses at most {points(found['max_drop'])} pp is taken."
    )


def _layers(found: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str, str]]:
    """Each layer's name, the harm that fewer bits do there alone, what they save, and whether it has them."""
    return [
        (row["layer"], f"{row['harm']:.2e}", f"{row['saved_bytes']:,}", "yes" if row["cheap"] else DASH)
        for row in found
    ]


def _training(found: Mapping[str, Any]) -> str:
    return (
        f"Trained in integers for {found['epochs']} epochs; the file gives the trained network's label to "
        f"{percent(found['label_agreement'])} of the validation samples, its logits at most "
        f"{significant(found['max_difference_steps'])} steps away."
    )


def _portability(found: Mapping[str, Any]) -> dict[str, Any]:
    """What the shipped weights lose on the worst processor; accuracy by weights tried and processor; what moves."""
    tried, moved, chosen = found["accuracy"], found["moved"], found["weights"]
    lost = tried[chosen]["s8s8"] - tried[chosen]["u8s8_saturating"]
    return {
        "answer": f"Weights of {WEIGHTS[chosen]}: {points(lost)} pp between processors",
        "samples": f"{found['samples']:,}",
        "rows": [
            (
                WEIGHTS[name],
                *(percent(tried[name].get(kind)) for kind in ARITHMETICS),
                percent(moved[name]),
                "yes" if name == chosen else DASH,
            )
            for name in tried
        ],
    }
