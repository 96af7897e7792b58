"""Devices on the page and on the terminal."""

from __future__ import annotations

from typing import Any

from tasks.report.devices import device_lines, devices_section
from tasks.report.html import render_report
from tasks.report.table import comparison_table

Run = tuple[dict[str, Any], dict[str, Any]]
INTERVALS = ("latency_ms_p50", "throughput_per_s", "speedup_over_float")
CANDIDATE = {
    **{"model": "quantized", "runtime": "onnxruntime", "threads": 2, "size_bytes": 43_526, "runs": 400},
    **{"latency_ms_p50": 0.0259, "throughput_per_s": 17_600.0, "speedup_over_float": 1.48},
    **{f"{key}_low95": 0.02 for key in INTERVALS},
    **{f"{key}_high95": 0.03 for key in INTERVALS},
    **{"cold_start_ms": 14.0, "import_ms": 82.0, "peak_memory_bytes": 60_500_000, "import_memory_bytes": 49_000_000},
}
WHICH = {"model": "quantized", "runtime": "onnxruntime", "threads": 2}
SUMMARY = {
    "candidates": [CANDIDATE],
    "profiles": [
        {"name": "cpu-all", "limits": {}, "served": WHICH, "nearest": None, "misses": []},
        {"name": "<tiny>", "limits": {}, "served": None, "nearest": WHICH, "misses": ["size 43,526 bytes, limit 9"]},
    ],
    "exports": [
        {"file": "pruned.pt2", "format": "exported_program", "model": "pruned", "batch": "any", "size_bytes": 180_000}
        | {"parity": {"max_difference": 4.8e-6, "label_agreement": 1.0, "samples": 179}},
    ],
}


def test_a_line_for_each_device() -> None:
    assert device_lines(SUMMARY) == [
        "cpu-all: quantized in onnxruntime, 2 threads, 0.0259 ms",
        "<tiny>: nothing meets it; nearest is quantized in onnxruntime, 2 threads (size 43,526 bytes, limit 9)",
    ]


def test_the_page_shows_devices_candidates_and_files_escaped(run: Run) -> None:
    page = render_report(run[0] | SUMMARY, run[1])
    for shown in ("What each device is served", "0.0259 ms", "&lt;tiny&gt;: nothing meets it", "43.5", "pruned.pt2"):
        assert shown in page
    assert "<tiny>" not in page


def test_the_terminal_says_it_too(run: Run) -> None:
    assert "  served on cpu-all: quantized in onnxruntime, 2 threads, 0.0259 ms" in comparison_table(run[0] | SUMMARY)


def test_without_profiles_the_section_is_left_out(run: Run) -> None:
    assert devices_section({}) is None and "What each device is served" not in render_report(*run)
