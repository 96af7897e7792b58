"""What runs in integers and what does not, as the report says it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from tasks.report.wording import DASH, percent, points, significant

WEIGHTS: Final = {"signed": "8 bits", "reduced": "7 bits", "unsigned": "8 bits, unsigned"}
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
        "portability": _portability(found["portability"]) if "portability" in found else None,
        "ladder": _ladder(found["ladder"]) if "ladder" in found else None,
        "layers": _layers(found["sensitivity"]) if "sensitivity" in found else None,
        "training": _training(found["training"]) if "training" in found else None,
    }


def _ladder(found: Mapping[str, Any]) -> dict[str, Any]:
    """Which rung was taken, and a row for each that was tried."""
    return {
        "answer": f"{found['chosen']}, of {len(found['rungs'])} tried",
        "max_drop": points(found["max_drop"]),
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
    """What the shipped weights lose on the worst processor, and accuracy by weights tried and processor."""
    tried, chosen = found["accuracy"], found["weights"]
    lost = tried[chosen]["s8s8"] - tried[chosen]["u8s8_saturating"]
    return {
        "answer": f"Weights of {WEIGHTS[chosen]}: {points(lost)} pp between processors",
        "samples": f"{found['samples']:,}",
        "rows": [
            (
                WEIGHTS[name],
                *(percent(tried[name].get(kind)) for kind in ARITHMETICS),
                "yes" if name == chosen else DASH,
            )
            for name in tried
        ],
    }
