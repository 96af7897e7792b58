"""What each device is served, out of all that was measured, as the report and the terminal say it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from tasks.report.wording import DASH, byte_size, short, significant, times

HEADS: Final = (
    *("model", "runtime", "threads", "p50 ms (95 %)", "per s (95 %)", "over float (95 %)"),
    *("on disk", "cold start ms", "peak memory"),
)
WORDS: Final = (0, 1)


def devices_section(summary: Mapping[str, Any]) -> dict[str, Any] | None:
    """Devices, candidates and exported files as rows of text; None where nothing was measured."""
    if not summary.get("profiles"):
        return None
    candidates: Sequence[Mapping[str, Any]] = summary["candidates"]
    return {
        "answer": "; ".join(device_lines(summary)),
        "runs": min(candidate["runs"] for candidate in candidates),
        "heads": HEADS,
        "words": WORDS,
        "candidates": [_row(candidate) for candidate in candidates],
        "exports": [_export(entry) for entry in summary.get("exports") or ()],
    }


def device_lines(summary: Mapping[str, Any]) -> list[str]:
    """One per profile: `cpu-1t: quantized in onnxruntime, 1 thread, 0.026 ms`, or what the nearest misses."""
    found = {_key(candidate): candidate for candidate in summary.get("candidates") or ()}
    lines = []
    for profile in summary.get("profiles") or ():
        which = profile["served"] or profile["nearest"]
        shown = f"{which['model']} in {which['runtime']}, {_threads(which['threads'])}"
        latency = significant(found[_key(which)]["latency_ms_p50"])
        if profile["served"]:
            lines.append(f"{profile['name']}: {shown}, {latency} ms")
        else:
            lines.append(f"{profile['name']}: nothing meets it; nearest is {shown} ({'; '.join(profile['misses'])})")
    return lines


def _row(candidate: Mapping[str, Any]) -> tuple[str, ...]:
    def with_interval(key: str, shown: Any) -> str:
        low, high = candidate[f"{key}_low95"], candidate[f"{key}_high95"]
        return f"{shown(candidate[key])} ({shown(low)}{DASH}{shown(high)})"

    return (
        candidate["model"].replace("_", " "),
        candidate["runtime"],
        str(candidate["threads"]),
        with_interval("latency_ms_p50", significant),
        with_interval("throughput_per_s", short),
        with_interval("speedup_over_float", lambda value: times(value, 1)),
        byte_size(candidate["size_bytes"]),
        significant(candidate["cold_start_ms"]),
        byte_size(candidate["peak_memory_bytes"]),
    )


def _export(entry: Mapping[str, Any]) -> tuple[str, ...]:
    compared = entry["parity"]
    return (
        entry["file"],
        entry["format"].replace("_", " "),
        byte_size(entry["size_bytes"]),
        significant(compared["max_difference"], 2),
        f"{compared['label_agreement']:.2%}",
        f"{compared['samples']:,}",
    )


def _key(which: Mapping[str, Any]) -> tuple[str, str, int]:
    return which["model"], which["runtime"], which["threads"]


def _threads(count: int) -> str:
    return f"{count} thread{'s' * (count > 1)}"
