"""What runs in integers, on the page."""

from __future__ import annotations

from typing import Any

from tasks.report.html import render_report
from tasks.report.quantization import quantization_section

Run = tuple[dict[str, Any], dict[str, Any]]
FACTS = {
    "scheme": "int8",
    "operations": [
        {"name": "1. QLinearConv 28x1x3x3", "arithmetic": "integer", "reason": "8-bit kernel"},
        {"name": "2. Conv <8x28x3x3>", "arithmetic": "float", "reason": "its input is not quantized"},
        {"name": "3. QGemm 10x8", "arithmetic": "integer", "reason": "8-bit kernel"},
    ],
}


def test_the_answer_counts_what_is_integer() -> None:
    section = quantization_section(FACTS)
    assert section is not None and section["answer"] == "2 of 3 convolutions and matrix products, 67 %"


def test_every_operation_stands_on_the_page_escaped(run: Run) -> None:
    page = render_report(run[0], run[1] | {"quantization": FACTS})
    for shown in ("What runs in integers", "2. Conv &lt;8x28x3x3&gt;", "its input is not quantized", "QGemm 10x8"):
        assert shown in page


def test_without_facts_the_section_is_left_out(run: Run) -> None:
    assert quantization_section({}) is None
    assert "What runs in integers" not in render_report(*run)


def test_a_file_with_nothing_to_multiply_is_not_divided_by() -> None:
    section = quantization_section({"scheme": "int8", "operations": []})
    assert section is not None and section["answer"].startswith("0 of 0")


def test_what_processors_differ_by_stands_beside_what_was_shipped(run: Run) -> None:
    accuracy = {
        "signed": {"u8s8_saturating": 0.842, "s8s8": 0.937},
        "reduced": {"u8s8_saturating": 0.936, "s8s8": 0.9375},
    }
    moved = {"signed": 0.314, "reduced": 0.0}
    facts = FACTS | {"portability": {"samples": 1000, "weights": "reduced", "accuracy": accuracy, "moved": moved}}
    section = quantization_section(facts)
    assert section is not None
    assert section["portability"]["answer"] == "Weights of 7 bits: 0.15 pp between processors"
    assert [row[0] for row in section["portability"]["rows"] if row[-1] == "yes"] == ["7 bits"]
    page = render_report(run[0], run[1] | {"quantization": facts})
    assert "84.20" in page and "31.40" in page and "1,000 validation samples" in page


RUNG = {"accuracy": 0.93, "accuracy_drop": 0.011, "accuracy_drop_upper95": 0.02, "harm": 0.1, "size_bytes": 41234}
LADDER = {
    "max_drop": 0.004,
    "chosen": "training",
    "rungs": [
        RUNG | {"rung": "static INT8", "inside": False, "integer_op_share": 1.0},
        RUNG | {"rung": "training", "inside": True, "integer_op_share": 1.0, "accuracy_drop": -0.001},
    ],
}


def test_every_rung_of_the_ladder_stands_on_the_page_and_which_was_taken(run: Run) -> None:
    section = quantization_section(FACTS | {"ladder": LADDER})
    assert section is not None
    assert section["ladder"]["answer"] == "training, of 2 tried"
    assert [(row[0], row[2], row[6], row[7]) for row in section["ladder"]["rows"]] == [
        ("static INT8", "+1.10", "no", "\u2013"),
        ("training", "-0.10", "yes", "yes"),
    ]
    page = render_report(run[0], run[1] | {"quantization": FACTS | {"ladder": LADDER}})
    assert "loses at most 0.40 pp" in page and "41,234" in page
    assert "How far up the ladder?" not in render_report(run[0], run[1] | {"quantization": FACTS})


def test_layers_with_fewer_bits_and_the_training_s_parity_stand_on_the_page(run: Run) -> None:
    facts = FACTS | {
        "sensitivity": [{"layer": "p<1>", "harm": 0.00201, "saved_bytes": 1234, "cheap": True}],
        "training": {"epochs": 4, "label_agreement": 0.9996, "logit_step": 0.1, "max_difference_steps": 1.0},
    }
    page = render_report(run[0], run[1] | {"quantization": facts})
    assert "p&lt;1&gt;" in page and "2.01e-03" in page and "1,234" in page
    assert "label to 99.96 % of the validation samples, its logits at most 1.00 steps away" in page


def test_calibrations_by_tensor_are_counted(run: Run) -> None:
    facts = FACTS | {"calibration": {"min_max": 3, "mse": 9}}
    assert "Calibration by tensor: min_max 3, mse 9." in render_report(run[0], run[1] | {"quantization": facts})
    assert "Calibration by tensor" not in render_report(run[0], run[1] | {"quantization": FACTS})


def test_what_rounding_and_bits_were_chosen_is_said_in_sentences(run: Run) -> None:
    facts = FACTS | {
        "equalised_pairs": 2,
        "smoothed_products": 0,
        "adaround": {"63": {"layers": 4, "output_error_vs_rtn": 0.4321}},
        "gptq": {"layers": 3, "kept_rtn": ["fc<2>"], "output_error_vs_rtn": 0.8},
        "weight_bits": {"a": 4, "b": 8, "c": 4},
        "activation": {"type": "signed", "measured": True},
        "in_float": [f"l{number}" for number in range(10)],
        "temperature": {"temperature": 1.25},
    }
    section = quantization_section(facts)
    assert section is not None and section["steps"] == [
        "Pairs of layers that share their scale evenly: 2.",
        "AdaRound, levels up to 63: 4 layers, 43.2 % of the nearest levels' output error.",
        "GPTQ: 3 layers, 80.0 % of the nearest levels' output error; the nearest levels served better in fc<2>.",
        "Layers by the bits of their weights: 2 in 4, 1 in 8.",
        "Activations: signed, which are faster where this was made.",
        "Left in float: l0, l1, l2, l3, l4, l5, l6, l7 and 2 more.",
        "Logits divided by 1.25, so that they are calibrated.",
    ]
    page = render_report(run[0], run[1] | {"quantization": facts})
    assert "served better in fc&lt;2&gt;" in page
    plain = quantization_section(FACTS | {"weight_bits": {"a": 8, "b": 8}})
    assert plain is not None and plain["steps"] == ["Layers by the bits of their weights: 2 in 8."]


def test_a_ladder_by_the_budget_says_against_whom_and_what_is_inside(run: Run) -> None:
    ladder = LADDER | {"max_drop": "budget", "limits": {"accuracy_drop": 0.03, "class_recall_drop": 0.12}}
    page = render_report(run[0], run[1] | {"quantization": FACTS | {"ladder": ladder}})
    assert "Drops are against the teacher" in page and "at most 3.00 pp with 95 % confidence" in page
    assert "no class more than 12.00 pp of recall" in page
    ladder["limits"] = {"accuracy_drop": 0.03, "class_recall_drop": None}
    assert "no class" not in str(quantization_section(FACTS | {"ladder": ladder}))


def test_unsigned_activations_by_the_clock_say_so() -> None:
    section = quantization_section(FACTS | {"activation": {"type": "unsigned", "measured": True}})
    assert section is not None
    (said,) = section["steps"]
    assert said.startswith("Activations: unsigned, as signed ones are not clearly faster where this was made, or only")
