"""The page: whole, safe with any name, alone in the world, and quiet about what it was not given."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape
from html.parser import HTMLParser
from typing import Any

import pytest

from tasks.report.html import render_report
from tasks.report.wording import DASH

Run = tuple[dict[str, Any], dict[str, Any]]
HOSTILE = "<script>alert('x')</script>\"onload=\"y"
VOID = {"meta", "br", "link", "img", "input", "hr"}


class Nesting(HTMLParser):
    """Checks that tags close in order and counts them."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.attributes.update(name for name, _ in attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def parsed(page: str) -> Nesting:
    nesting = Nesting()
    nesting.feed(page)
    assert nesting.open == []
    return nesting


def visible(page: str) -> str:
    """The page's text, styles and scripts left out, with plain spaces and signs."""
    text = re.sub(r"<(style|script)>.*?</\1>", "", page, flags=re.S)
    text = unescape(re.sub(r"<[^>]+>", " ", text))
    return re.sub(r"\s+", " ", text.replace("\u2212", "-"))


def test_names_from_the_data_cannot_run_or_break_the_page(make_run: Callable[..., Run]) -> None:
    classes = [HOSTILE, "b", "{{ 7 * 7 }}"]
    summary, details = make_run(classes)
    summary.update(verdict=HOSTILE, data={"name": HOSTILE, "sha256": HOSTILE}, environment={HOSTILE: HOSTILE})
    for variant in summary["variants"]:
        variant["worst_class"] = HOSTILE
        for check in variant["checks"]:
            check.update(name=HOSTILE, note=HOSTILE, verdict=HOSTILE)
    details["sensitivity"][0]["layer"] = HOSTILE
    details["coreset"]["method"] = HOSTILE
    page = render_report(summary, details)
    nesting = parsed(page)
    assert nesting.seen.count("script") == 1
    assert "onload" not in nesting.attributes
    assert "{{ 7 * 7 }}" in visible(page)
    assert HOSTILE in visible(page)


def test_it_needs_nothing_but_itself(run: Run) -> None:
    page = render_report(*run)
    assert "http:" not in page.replace("http-equiv", "")
    assert not re.search(r"https:|//[a-z]|@import|url\(|<link|<img|\ssrc=", page)
    assert {"figure", "svg", "table"} <= set(parsed(page).seen)


def test_every_figure_stands_on_the_page(run: Run) -> None:
    text = visible(render_report(*run))
    for shown in (
        *(run[0]["verdict"], "pass", "fail", "reference"),
        *(
            "97.50 %",
            "1.11",
            "2.01",
            "8.33",
            "97.9 %",
            "11.9 kB",
            "\u00d759",
            "5.87 k",
            "366 k",
            "0.0380",
            "\u00d711",
            "118 k",
        ),
        *("packed 14.2 kB", "3.12 pp limit 2.50 pp", "1.21 ms", "\u00d732 faster", "0.83 pp"),
        *("Yes: +1.94 pp", "98.06 %", "96.11 %"),
        *("sha256 " + "9f2c4a1b" * 8, "samples 1,797", "train 1,258", "validation 179", "test 360"),
        *("coreset method k_center", "coreset samples 629", "coreset coverage radius 3.210"),
        *("dvc repro", "downsize run --params params.yaml", "seed 0", "AMD EPYC 7763", "2.12.0+cpu"),
    ):
        assert shown in text


def test_both_confusions_and_their_difference_are_drawn(run: Run) -> None:
    page = render_report(*run)
    assert [title in page for title in ("Confusion: teacher", "Confusion: quantized", "Change in confusion")] == [
        True
    ] * 3
    assert page.count('class="plain"') == 200
    assert len(re.findall(r'class="(?:good|bad)"', page)) == 100


@pytest.mark.parametrize(
    ("missing", "heading"),
    [
        ("per_variant", "Errors by class"),
        ("classes", "Errors by class"),
        ("histories", "Training loss by epoch"),
        ("sensitivity", "Sensitivity to pruning"),
        ("coreset", "coreset method"),
    ],
)
@pytest.mark.parametrize("emptied", [False, True])
def test_a_section_without_data_is_left_out(run: Run, missing: str, heading: str, emptied: bool) -> None:
    summary, details = run
    assert heading in render_report(summary, details)
    del details[missing]
    page = render_report(summary, details | ({missing: None} if emptied else {}))
    parsed(page)
    assert heading not in page
    assert "Variants" in page


def test_variants_alone_make_a_page(run: Run) -> None:
    summary = {key: run[0][key] for key in ("reference", "final", "verdict", "variants")}
    summary["variants"] = [v for v in summary["variants"] if v["name"] in ("teacher", "quantized")]
    for variant in summary["variants"]:
        variant.update(latency_ms_p50=None, throughput_per_s=None, packed_bytes=None)
    page = render_report(summary, {})
    parsed(page)
    assert "Accuracy against size" in page
    for absent in ("Accuracy against latency", "Did distillation help", "eager PyTorch", "None", " nan ", "Undefined"):
        assert absent not in visible(page)


@pytest.mark.parametrize(
    ("alone", "answer"), [(0.95, "Yes: +3.00 pp"), (0.985, "Too close to call: -0.50 pp"), (0.99, "No: -1.00 pp")]
)
def test_whether_distillation_helped(run: Run, alone: float, answer: str) -> None:
    run[0]["variants"][1]["accuracy"], run[0]["variants"][2]["accuracy"] = alone, 0.98
    assert answer in visible(render_report(*run))


def test_where_the_probe_chose_the_labels_alone_the_page_says_so(run: Run) -> None:
    run[1]["distillation"] = {"chosen": {"name": "alone", "losses": [], "target_weight": 1.0}}
    page = visible(render_report(*run))
    assert "Distillation did not help here" in page and "The probe found no loss better" in page


PROBED = {
    "sentence": "distillation helped: 98.06 % against 96.11 % alone, 67 % (interval 53 to 80) of the gap closed",
    "chosen": {"name": "dist T2", "losses": [{"method": "dist"}], "target_weight": 1.0},
    "probe": [
        {"candidate": "alone", "epochs": 3, "validation_accuracy": 0.9},
        {"candidate": "dist T2", "epochs": 3, "validation_accuracy": 0.91},
        {"candidate": HOSTILE, "epochs": 3, "validation_accuracy": 0.8},
        {"candidate": "dist T2", "epochs": 6, "validation_accuracy": 0.95},
    ],
    "classes": [
        {"name": "seven", "recall_alone": 0.9, "recall_student": 0.95, "p_adjusted": 0.01},
        {"name": "eight", "recall_alone": 0.9, "recall_student": 0.8, "p_adjusted": 0.049},
        {"name": "nine", "recall_alone": 0.9, "recall_student": 0.99, "p_adjusted": 0.05},
    ],
}


def test_the_page_says_what_the_probe_tried_and_which_classes_changed(run: Run) -> None:
    run[1]["distillation"] = PROBED
    page = render_report(*run)
    parsed(page)
    text = visible(page)
    assert f"On the validation split {PROBED['sentence']}." in text
    assert "Classes that changed (p below 0.05, adjusted for all): seven +5.00 pp, eight -10.00 pp." in text
    table = text.partition("What the probe tried")[2]
    assert f"Chosen: dist T2. learns from 3 epochs 6 epochs alone 90.00 % {DASH} dist T2 91.00 % 95.00 % " in table
    assert f"{HOSTILE} 80.00 % {DASH}" in table


def test_without_a_probe_and_without_changes_there_is_nothing_of_them(run: Run) -> None:
    run[1]["distillation"] = {**PROBED, "probe": [], "classes": PROBED["classes"][2:]}
    page = visible(render_report(*run))
    assert "What the probe tried" not in page and "Classes that changed" not in page


def test_of_many_classes_the_ones_that_changed_are_shown(make_run: Callable[..., Run]) -> None:
    summary, details = make_run([f"class {i:03}" for i in range(200)], samples=2000)
    details["per_variant"]["teacher"]["recall"][137] = 1.0
    details["per_variant"]["quantized"]["recall"][137] = 0.0
    page = render_report(summary, details)
    assert page.count('class="plain"') == 2 * 30 * 30
    assert "The 30 classes whose recall changed most" in page
    assert "class 137" in page
    assert len(page) < 1_000_000


def luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance."""
    digits = colour[1:] if len(colour) == 7 else "".join(digit * 2 for digit in colour[1:])
    shares = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("theme", [0, 1])
def test_text_stands_out_in_both_themes(run: Run, theme: int) -> None:
    blocks = re.findall(r"color-scheme: (?:light|dark);.*?--s5: #\w+;", render_report(*run), flags=re.S)
    colours = dict(re.findall(r"--([\w-]+): (#\w+)", blocks[theme]))
    pairs = [(text, "card") for text in ("ink", "muted", "fail", *(f"s{i}" for i in range(6)))]
    pairs += [(gate, f"{gate}-soft") for gate in ("pass", "fail", "inconclusive", "reference")]
    pairs += [("ink", "page"), ("muted", "page"), ("ink", "reference-soft"), ("muted", "reference-soft")]
    for text, ground in pairs:
        darker, lighter = sorted(luminance(colours[name]) for name in (text, ground))
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5, f"{text} on {ground}"


def test_the_colours_of_both_themes_reach_the_page(run: Run) -> None:
    page = render_report(*run)
    assert page.count("--s0: #5b6573") == 1
    assert page.count("--s0: #a9b4c2") == 2  # asked for by the system, or by the button


def test_rounds_of_one_training_draw_one_line_to_the_right(run: Run) -> None:
    losses = [{"epoch": epoch, "loss": 1.0 / (i + 1)} for i, epoch in enumerate((1, 2, 1, 2, 3))]
    run[1].update(histories={"pruned": losses}, sensitivity=[])
    (path,) = re.findall(r'class="stroke line s3" d="M([^"]+)"', render_report(*run))
    places = [float(point.split()[0]) for point in path.split(" L")]
    assert len(places) == 5
    assert places == sorted(set(places))


def test_same_run_same_page(run: Run) -> None:
    assert render_report(*run) == render_report(*run)


def test_a_final_variant_that_is_not_there_is_named(run: Run) -> None:
    run[0]["final"] = "ternary"
    with pytest.raises(ValueError, match="final is 'ternary', which is not among the variants teacher"):
        render_report(*run)
