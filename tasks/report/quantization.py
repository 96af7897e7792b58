"""What runs in integers and what does not, as the report says it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks.report.wording import percent


def quantization_section(found: Mapping[str, Any]) -> dict[str, Any] | None:
    """The answer and the operations of quantization.json of the quantize stage; None where there is none."""
    operations = found.get("operations")
    if operations is None:
        return None
    integer = sum(operation["arithmetic"] == "integer" for operation in operations)
    share = percent(integer / len(operations), 0) if operations else percent(1.0, 0)
    return {
        "answer": f"{integer} of {len(operations)} convolutions and matrix products, {share}",
        "scheme": found["scheme"],
        "operations": [(entry["name"], entry["arithmetic"], entry["reason"]) for entry in operations],
    }
