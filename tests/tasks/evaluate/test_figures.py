import numpy as np
import pytest

from tasks.evaluate.figures import quality

ACTUAL = np.array([0, 0, 0, 0, 1, 1, 2, 2])
PREDICTED = np.array([0, 0, 0, 1, 1, 0, 1, 0])  # 2 is never answered


def test_figures_by_hand():
    found = quality(ACTUAL, PREDICTED, 3)
    assert found.confusion == [[3, 1, 0], [1, 1, 0], [1, 1, 0]]
    assert found.support == [4, 2, 2]
    assert found.accuracy == 0.5
    assert found.recall == pytest.approx([3 / 4, 1 / 2, 0])
    assert found.precision == pytest.approx([3 / 5, 1 / 3, 0])
    assert found.f1 == pytest.approx([2 / 3, 2 / 5, 0])
    assert found.recall_macro == pytest.approx(1.25 / 3)
    assert found.precision_macro == pytest.approx((3 / 5 + 1 / 3) / 3)
    assert found.f1_macro == pytest.approx((2 / 3 + 2 / 5) / 3)


def test_a_perfect_model_has_ones_and_a_diagonal():
    found = quality(ACTUAL, ACTUAL, 3)
    assert found.accuracy == found.f1_macro == 1 and found.recall == found.precision == [1, 1, 1]
    assert found.confusion == np.diag([4, 2, 2]).tolist()


def test_a_class_that_never_occurs_keeps_its_place():
    found = quality(np.array([0, 2]), np.array([0, 2]), 4)
    assert found.support == [1, 0, 1, 0] and found.recall == [1, 0, 1, 0] and len(found.confusion) == 4


def test_renaming_the_classes_moves_the_figures_along():
    order = np.array([2, 0, 1])
    before, after = quality(ACTUAL, PREDICTED, 3), quality(order[ACTUAL], order[PREDICTED], 3)
    assert [after.recall[index] for index in order] == before.recall
    assert after.f1_macro == pytest.approx(before.f1_macro)
