"""What the page says of other conditions, calibration, exemplars and lineage."""

from __future__ import annotations

import re
from base64 import b64decode
from html import unescape
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tasks.report.before_after import accuracy_by_slice
from tasks.report.calibration import reliability_chart
from tasks.report.html import render_report
from tasks.report.pictures import png

Run = tuple[dict[str, Any], dict[str, Any]]
ENDS = (("teacher", 0), ("quantized", 4))
HOSTILE = "<script>alert('x')</script>\"onload=\"y"


def picture(size: int = 8) -> bytes:
    return png(np.random.default_rng(0).integers(0, 255, (1, size, size)).astype(np.uint8))


@pytest.fixture
def full(run: Run) -> Run:
    """With all that evaluate knows."""
    summary, details = run
    rotate = {"name": "rotate", "reference": 0.8, "accuracy": 0.7, "drop": 0.1, "increase": 0.0891, "p": 0.0001}
    blur = {"name": "blur", "reference": 0.99, "accuracy": 0.995, "drop": -0.005, "increase": -0.0151, "p": 1.0}
    for variant in summary["variants"]:
        variant |= {"train_accuracy": 0.999, "train_test_gap": 0.999 - variant["accuracy"], "mcnemar_p": 0.25}
        variant |= {"corruption_accuracy": 0.8123, "corruptions": [rotate, blur], "negative_flips": 0.01}
        variant |= {"shifted_accuracy": 0.7654, "shifted_drop": -0.0321, "shifted_drop_upper95": 0.0123}
        variant |= {"positive_flips": 0.0, "nll": 0.0355, "brier": 0.0212, "ece": 0.0142, "nll_uncalibrated": 0.0444}
        variant |= {"accuracy_drop_bootstrap05": -0.0011, "accuracy_drop_bootstrap95": 0.0234}
        variant |= {"ece_uncalibrated": 0.0333}
        variant["slices"] = [
            {"name": "site=a", "samples": 200, "drop": 0.1, "p": 0.01, "accuracy": 0.85},
            {"name": "site=b", "samples": 0, "drop": 0.0, "p": 1.0, "accuracy": 0.0},
        ]
    summary |= {"corrupted_samples": 360, "shifted_samples": 1234}
    summary["lineage"] = [{"name": "student_alone", "made_from": "coreset", "file": "artifacts/s", "sha256": "ab" * 32}]
    details["reliability"] = {"teacher": [(0.9, 1.0, 300)], "quantized": [(0.6, 0.5, 4), (0.9, 0.8, 300)]}
    details["quantization"] = {"temperature": {"temperature": 1.234, "samples": 179}}
    shown = {"row": 1, "part": "test", "actual": 2, "predicted": 3, "margin": 0.775, "reference_confidence": 0.9}
    details["exemplars"] = {
        "counts": {"test": 5, "train": 0}, "samples": {"test": 361, "train": 1257}, "columns": ["age"],
        "shown": [{**shown, "id": "54", "png": picture(), "values": ["42"]}],
    }  # fmt: skip
    return summary, details


def visible(page: str) -> str:
    text = unescape(re.sub(r"<[^>]+>", " ", re.sub(r"<(style|script)>.*?</\1>", "", page, flags=re.S)))
    return re.sub(r"\s+", " ", text.replace("\u2212", "-"))


def test_every_figure_stands_on_the_page(full: Run) -> None:
    text = visible(render_report(*full))
    for shown in (
        "rotate 80.00 % 70.00 % +10.00 +8.91 < 0.001",
        "blur 99.00 % 99.50 % -0.50 -1.51 1.000",
        "variant training test gap, pp corrupted shifted drop, pp 95 % up to",
        "quantized 99.90 % 97.50 % +2.40 81.23 % 76.54 % -3.21 1.23",
        "Shifted: 1,234 samples from elsewhere",
        "divides its logits by a temperature of 1.23, fitted on 179 validation samples; on the test split "
        "ECE 0.0333 without it and 0.0142 with it, NLL 0.0444 without it and 0.0355 with it.",
        "quantized +1.11 2.01 -0.11 to +2.34 0.250",
        "5 of 361 test, 0 of 1,257 train samples that teacher answers rightly",
        "2 taken for 3 margin 77.5 %, id 54",
        "student alone from coreset artifacts/s " + "ab" * 32,
        *("Reliability", "Accuracy by slice, before and after"),
    ):
        assert shown in text, shown


def test_pictures_are_in_the_page_itself_and_nothing_else_is_fetched(full: Run) -> None:
    page = render_report(*full)
    sources = re.findall(r'\ssrc="([^"]*)"', page)
    assert len(sources) == 1 and sources[0].startswith("data:image/png;base64,")
    shown = Image.open(BytesIO(b64decode(sources[0].partition(",")[2])))
    assert shown.size == (8, 8) and "img-src data:" in page


def test_rows_of_a_table_stand_where_there_are_no_pictures_and_cannot_run(full: Run) -> None:
    full[1]["exemplars"]["shown"][0] |= {"png": None, "id": HOSTILE, "values": [HOSTILE]}
    page = render_report(*full)
    assert "<img" not in page and page.count("<script") == 1
    assert f"id actual answered margin reference age {HOSTILE} 2 3 77.5 % 90.0 % {HOSTILE}" in visible(page)


def test_the_largest_page_stays_below_3_mb(full: Run) -> None:
    full[1]["exemplars"]["shown"] *= 24
    for one in full[1]["exemplars"]["shown"]:
        one["png"] = png(np.random.default_rng(1).integers(0, 255, (3, 400, 300)).astype(np.uint8))
    assert len(render_report(*full)) < 3_000_000


def test_ranges_of_few_samples_are_left_out_of_the_reliability_chart() -> None:
    curves = {"teacher": [(0.9, 1.0, 300)], "quantized": [(0.6, 0.5, 4), (0.9, 0.8, 300)]}
    chart = reliability_chart(curves, ENDS)
    assert chart is not None and [mark.tip.splitlines()[1:3] for mark in chart.marks] == [
        ["confidence 90.00 %", "right 100.00 %"],
        ["confidence 90.00 %", "right 80.00 %"],
    ]
    assert reliability_chart(curves | {"quantized": [(0.6, 0.5, 4)]}, ENDS) is None


def test_a_slice_without_samples_is_not_drawn(full: Run) -> None:
    chart = accuracy_by_slice(full[0], ENDS)
    assert chart is not None and [text for _, text in chart.y_ticks] == ["site=a"]
    assert "teacher 95.00 %\nquantized 85.00 %\nchange -10.00 pp\n200 test samples" in chart.marks[0].tip


@pytest.mark.parametrize(("shape", "size"), [((1, 8, 8), (8, 8)), ((3, 200, 100), (48, 96)), ((2, 5, 7), (7, 5))])
def test_a_picture_keeps_its_form_and_stretches_its_range(shape: tuple[int, ...], size: tuple[int, int]) -> None:
    image = np.linspace(-1, 3, int(np.prod(shape))).reshape(shape)
    shown = Image.open(BytesIO(png(image)))
    assert shown.size == size and shown.mode == ("RGB" if shape[0] == 3 else "L")
    assert np.asarray(shown).min() <= 3 and (shape[0] == 2 or np.asarray(shown).max() >= 250)
    assert png(image) == png(image) and png(np.zeros(shape))
