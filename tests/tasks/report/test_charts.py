"""Charts put values where they belong."""

from __future__ import annotations

import itertools

import pytest

from tasks.report.before_after import recall_by_class
from tasks.report.charts import Candidate, Chart, lines, trade_off
from tasks.report.matrix import difference, matrix
from tasks.report.scale import Scale
from tasks.report.variants import consecutive, pareto_front


def test_pareto_front_by_hand() -> None:
    # dominated: (3, 0.80) by (2, 0.90); (2, 0.85) by (2, 0.90); (9, 0.95) by (5, 0.95)
    candidates = [(9, 0.95), (3, 0.80), (2, 0.90), (1, 0.70), (5, 0.95), (2, 0.85)]
    assert pareto_front(candidates) == [3, 2, 4]


def test_of_equal_candidates_the_front_keeps_the_first() -> None:
    assert pareto_front([(1, 0.5), (1, 0.5)]) == [0]


def test_no_candidates_no_front() -> None:
    assert pareto_front([]) == []


def test_a_scale_maps_its_ends_and_a_log_scale_its_middle() -> None:
    assert [Scale(0, 10, 100, 300)(value) for value in (0, 5, 10)] == [100, 200, 300]
    assert [Scale(1, 100, 0, 200, log=True)(value) for value in (1, 10, 100)] == [0, 100, 200]


@pytest.mark.parametrize("values", [(0.97, 0.98), (0.5,), (3, 3_000_000), (11_000, 12_000), (1e-3, 1e9), (7, 7)])
@pytest.mark.parametrize("log", [False, True])
def test_ticks_are_few_round_rising_and_inside(values: tuple[float, ...], log: bool) -> None:
    scale = Scale.around(values, 0, 100, log=log)
    ticks = scale.ticks(5)
    assert 1 <= len(ticks) <= 5
    assert ticks == sorted(set(ticks))
    assert all(0 <= scale(tick) <= 100 for tick in ticks)
    assert all(0 < scale(value) < 100 for value in values)


def test_a_linear_scale_takes_zeros() -> None:
    assert 0 < Scale.around([0.0], 0, 100)(0.0) < 100


def candidates(*places: tuple[float, float]) -> list[Candidate]:
    return [
        Candidate(f"variant{i}", i, cost, accuracy, accuracy - 0.01, "tip") for i, (cost, accuracy) in enumerate(places)
    ]


def trade_off_of(*places: tuple[float, float]) -> Chart:
    return trade_off(candidates(*places), 0.9, "title", "cost", str)


def test_the_front_is_a_staircase_through_its_variants() -> None:
    chart = trade_off_of((100, 0.95), (10, 0.92), (50, 0.91))
    best, cheap, _ = chart.marks
    front = next(stroke.path for stroke in chart.strokes if stroke.kind == "front")
    assert front == f"M{cheap.x} {cheap.y} V{cheap.y} H{best.x} V{best.y} H{chart.right}"


def test_more_accurate_is_higher_and_cheaper_is_further_left() -> None:
    dear, cheap = trade_off_of((100, 0.95), (10, 0.92)).marks
    assert dear.y < cheap.y
    assert cheap.x < dear.x


def test_labels_cover_neither_marks_nor_each_other() -> None:
    chart = trade_off_of((100, 0.95), (99, 0.9495), (98, 0.949), (10, 0.92))
    boxes = []
    for label in chart.labels:
        wide = 8.5 * len(label.text)
        start = label.x - wide * {"start": 0.0, "middle": 0.5, "end": 1.0}[label.anchor]
        boxes.append((start, label.y - 12, start + wide, label.y + 3))
    for a, b in itertools.combinations(boxes, 2):
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


def test_curves_keep_their_last_point_and_show_at_most_so_many() -> None:
    curve = [(float(epoch), 0.5 + epoch / 2000) for epoch in range(500)]
    chart = lines([("teacher", 0, curve)], ("title", "note", "epoch"), "accuracy", str)
    assert len(chart.marks) <= 61
    assert chart.marks[-1].tip == "teacher\nepoch 499.0\naccuracy 74.95 %"
    assert [mark.faint for mark in chart.marks[-2:]] == [True, False]


def test_recall_puts_the_deepest_fall_first() -> None:
    before, after = {"recall": [0.9, 0.8, 0.7], "support": [3, 4, 5]}, {"recall": [0.88, 0.6, 0.75]}
    chart = recall_by_class(["a", "b", "c"], before, after, (("old", 0), ("new", 4)))
    assert [name for _, name in chart.y_ticks] == ["b", "a", "c"]
    assert [stroke.kind for stroke in chart.strokes] == ["fall", "fall", "rise"]
    assert chart.marks[0].tip == "b\nold 80.00 %\nnew 60.00 %\nchange -20.00 pp\n4 test samples"


def test_difference_calls_losses_on_the_diagonal_bad_and_off_it_good() -> None:
    rows = difference(["a", "b"], [[9, 1], [2, 8]], [[10, 0], [4, 6]]).rows
    assert [[(cell.text, cell.tone) for cell in row] for row in rows] == [
        [("+1", "good"), ("\u22121", "good")],
        [("+2", "bad"), ("\u22122", "bad")],
    ]


def test_a_matrix_shades_by_share_of_its_row_and_survives_an_empty_class() -> None:
    rows = matrix("m", ["a", "b"], [[50, 50], [0, 0]]).rows
    assert [[cell.alpha for cell in row] for row in rows] == [[0.424, 0.424], [0, 0]]
    assert rows[0][1].tip == "actual a\npredicted b\n50 samples, 50.0 % of row"


def test_epochs_that_start_anew_count_on() -> None:  # pruning recovers round by round, each from epoch 1
    rows = [
        {"epoch": epoch, "loss": loss} for epoch, loss in [(1, 0.9), (2, 0.8), (1, 1.7), (2, 1.6), (3, 1.5), (1, 2.0)]
    ]
    counted = [(row["epoch"], row["loss"]) for row in consecutive(rows)]
    assert counted == [(1, 0.9), (2, 0.8), (3, 1.7), (4, 1.6), (5, 1.5), (6, 2.0)]
    assert rows[2]["epoch"] == 1
