"""The comparison that a run prints on the terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping
from typing import Any, Final

from tasks.report.devices import device_lines
from tasks.report.variants import chosen
from tasks.report.wording import DASH, TIMES, check_figure, kilobytes, percent, points, short, significant, times

Variant = Mapping[str, Any]
WIDTH: Final = 120
NAME_WIDTH: Final = 13


def _drop(variant: Variant, _: Variant) -> str:
    return f"{points(variant['accuracy_drop'])} ({points(variant['accuracy_drop_upper95'])})"


def _with_gain(variant: Variant, reference: Variant, key: str, shown: str) -> str:
    gain = "" if variant is reference else times(reference[key], variant[key])
    return f"{shown} {gain:<4}"  # a fixed width lines the figures up among themselves


def _size(variant: Variant, reference: Variant) -> str:
    return _with_gain(variant, reference, "size_bytes", kilobytes(variant["size_bytes"]))


def _latency(variant: Variant, reference: Variant) -> str:
    return _with_gain(variant, reference, "latency_ms_p50", significant(variant["latency_ms_p50"]))


def _gate(variant: Variant, _: Variant) -> str:
    return str(variant["gate"])


# two header lines; what the cell shows of a variant beside the reference
COLUMNS: Final[tuple[tuple[str, str, Callable[[Variant, Variant], str]], ...]] = (
    ("", "variant", lambda variant, _: variant["name"][:NAME_WIDTH]),
    ("acc.", "%", lambda variant, _: percent(variant["accuracy"]).removesuffix(" %")),
    ("drop pp", "(95 % up to)", lambda variant, reference: DASH if variant is reference else _drop(variant, reference)),
    ("worst", "class", lambda variant, _: points(variant["worst_class_recall_drop"])),
    ("agree", "%", lambda variant, _: percent(variant["agreement"], 1).removesuffix(" %")),
    ("size kB", f"{TIMES}smaller", _size),
    ("param-", "eters", lambda variant, _: short(variant["parameters"])),
    ("", "MACs", lambda variant, _: short(variant["macs"])),
    ("p50 ms", f"{TIMES}faster", _latency),
    ("", "per s", lambda variant, _: short(variant["throughput_per_s"])),
    ("", "gate", _gate),
)
LEFT: Final = {0, len(COLUMNS) - 1}


def comparison_table(summary: Mapping[str, Any]) -> str:
    """All variants side by side, the verdict, and each check that did not pass; at most 120 columns wide.

    Drops are in percentage points against the reference, positive meaning worse; gains are relative to it.

    Raises:
        ValueError: the summary names a reference that is not among its variants.
    """
    reference = chosen(summary, "reference")
    rows = [[top for top, _, _ in COLUMNS], [bottom for _, bottom, _ in COLUMNS]]
    rows += [[cell(variant, reference) for _, _, cell in COLUMNS] for variant in summary["variants"]]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    lines = ["  ".join(_aligned(row, widths)).rstrip() for row in rows]
    lines.insert(2, "  ".join("-" * width for width in widths))
    prose = [
        textwrap.fill(line, WIDTH, subsequent_indent=" " * 4 * line.startswith(" ")) for line in _findings(summary)
    ]
    return "\n".join([*lines, "", *prose])


def _aligned(row: list[str], widths: list[int]) -> list[str]:
    return [
        cell.ljust(width) if column in LEFT else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]


def _findings(summary: Mapping[str, Any]) -> list[str]:
    """The verdict; a line per open check: `  pruned: fail: accuracy_drop 1.20 pp, limit 0.50 pp (note)`; devices."""
    checks = [
        f"  {variant['name']}: {check['verdict']}: {check['name']} {check_figure(check['name'], check['value'])}, "
        f"limit {check_figure(check['name'], check['limit'])}" + (f" ({check['note']})" if check.get("note") else "")
        for variant in summary["variants"]
        if variant["name"] != summary["reference"]
        for check in variant["checks"]
        if check["verdict"] != "pass"
    ]
    return [str(summary["verdict"]), *checks, *(f"  served on {line}" for line in device_lines(summary))]
