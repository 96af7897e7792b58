"""What runs in integers and what does not, as the report says it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tasks.report.wording import DASH, percent, points

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
    }


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
