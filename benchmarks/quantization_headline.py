"""The headline figures of the quantization benchmark's rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

Row = dict[str, Any]
OUR_FLOAT: Final = ", from our float file"


def headline(rows: Sequence[Row]) -> dict[str, float | None]:
    """The worst over the models of means over the seeds measured so far; what has not been measured is null."""
    speeds = {row["model"]: row for row in rows if row["kind"] == "speed"}
    ptq, qat, w4, mixed = (
        [row for row in rows if row["kind"] == "mean" and row["scheme"] == scheme]
        for scheme in ("ptq", "qat", "w4 qat", "mixed w4/w8")
    )
    portable = [row for row in rows if row["kind"] == "drop" and row["scheme"] == "ptq, portable"]
    return {
        "ptq_drop_upper95_pp": _most(ptq, "drop_upper95"),
        "qat_drop_upper95_pp": _most(qat, "drop_upper95"),
        "integer_op_share_ptq": min((row["integer_op_share"] for row in ptq), default=None),
        "integer_op_share_qat": min((row["integer_op_share"] for row in qat), default=None),
        "speed_vs_best_peer_b1": _against_peers(speeds, "b1_ms"),
        "speed_vs_best_peer_b256": _against_peers(speeds, "b256_ms"),
        "speed_vs_best_peer_b1_from_our_float_file": _against_peers(speeds, "b1_ms", OUR_FLOAT),
        "speed_vs_best_peer_b256_from_our_float_file": _against_peers(speeds, "b256_ms", OUR_FLOAT),
        "speedup_vs_float_b256": _speedup(speeds, "b256_ms"),
        "speedup_vs_float_b1": _speedup(speeds, "b1_ms"),
        "w4_drop_pp": _most(w4, "drop"),
        "mixed_drop_pp": _most(mixed, "drop"),
        "portable_drop_pp": _portable(portable),
    }


def _most(rows: list[Row], key: str) -> float | None:
    return 100 * max(row[key] for row in rows) if rows else None


def _portable(rows: list[Row]) -> float | None:
    """What the shipped file loses on x86 without VNNI beside x86 with it, by emulation on validation samples."""
    return max((100 * (row["accuracy_s8s8"] - row["accuracy_u8s8_saturating"]) for row in rows), default=None)


def _against_peers(speeds: dict[str, Row], key: str, begun_with: str = "") -> float | None:
    """How much faster our file is than the fastest of the peers on the same runtime; the least over models.

    begun_with: PyTorch's export, or the float file that ours was made from.
    """
    ratios = []
    for row in speeds.values():
        for runtime in ("onnxruntime", "openvino"):
            timed = row[runtime] or {}
            others = {name: own[key] for name, own in timed.items() if name not in ("float", "ours")}
            peers = [ms for name, ms in others.items() if name.endswith(OUR_FLOAT) == bool(begun_with)]
            if peers:
                ratios.append(min(peers) / timed["ours"][key])
    return min(ratios, default=None)


def _speedup(speeds: dict[str, Row], key: str) -> float | None:
    timed = speeds["teacher"]["onnxruntime"] if "teacher" in speeds else None
    return timed["float"][key] / timed["ours"][key] if timed else None
