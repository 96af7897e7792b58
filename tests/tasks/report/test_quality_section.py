from tasks.report.html import render_report
from tasks.report.quality import quality_section

FIGURES = {"negative_flips": 0.0125, "positive_flips": 0.005, "nll": 0.123456, "brier": 0.04, "ece": 0.0071}


def measured(summary):
    slices = [{"name": "site=<a>", "samples": 1200, "drop": 0.034, "p": 0.0123}]
    variants = [variant | FIGURES | {"agreement": 0.975, "slices": slices} for variant in summary["variants"]]
    return summary | {"variants": variants}


def test_a_row_per_variant_and_slices_of_the_final_one(run):
    section = quality_section(measured(run[0]))
    assert section["rows"][-1] == ("quantized", "97.50 %", "1.25 %", "0.50 %", "0.123", "0.0400", "0.00710")
    assert section["slices"] == [("site=<a>", "1,200", "+3.40", "0.0123")]


def test_the_page_shows_it_escaped_and_leaves_it_out_where_nothing_was_measured(run):
    summary, details = run
    page = render_report(measured(summary), details)
    assert "site=&lt;a&gt;" in page and "negative flips" in page
    assert quality_section(summary) is None and "negative flips" not in render_report(summary, details)
