from itertools import pairwise
from math import log

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, log_loss

from tasks.measure.confidence import calibration_error, confidence, reliability

TARGETS = np.array([0, 0, 1])
PROBABILITIES = np.array([[0.9, 0.1, 0.0], [0.4, 0.6, 0.0], [0.1, 0.9, 0.0]])  # class 2 occurs nowhere


def test_by_hand():
    found = confidence(TARGETS, PROBABILITIES)
    assert found.nll == pytest.approx(-(2 * log(0.9) + log(0.4)) / 3)
    assert found.brier == pytest.approx((0.02 + 0.72 + 0.02) / 3)
    assert found.ece == pytest.approx((2 * 0.1 + 0.6) / 3)  # two of 0.9, both right; one of 0.6, wrong


def test_over_and_under_confidence_in_one_bin_cancel():
    assert calibration_error(np.array([0, 1]), np.array([[0.5, 0.5], [0.5, 0.5]])) == pytest.approx(0)
    assert calibration_error(np.array([0, 0]), np.array([[1.0, 0.0], [1.0, 0.0]])) == 0


def test_answers_of_one_range_are_taken_together():
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [1.0, 0.0]])
    # two at 0.9 of which one is right, one at 0.6 and right, one at 1.0 and right
    assert calibration_error(np.array([0, 1, 1, 0]), probabilities) == pytest.approx((0.8 + 0.4) / 4)


def test_agrees_with_plain_formulas_and_scikit_learn():
    rng = np.random.default_rng(0)
    p, y = rng.dirichlet(np.ones(4), 500), rng.integers(0, 4, 500)
    found = confidence(y, p)
    assert found.nll == pytest.approx(-np.log(p[np.arange(500), y]).mean(), rel=1e-9)
    assert found.nll == pytest.approx(log_loss(y, p), rel=1e-9)
    assert found.brier == pytest.approx(((p - np.eye(4)[y]) ** 2).sum(1).mean(), rel=1e-9)
    assert found.brier == pytest.approx(brier_score_loss(y, p, scale_by_half=False), rel=1e-9)
    edges = np.linspace(0, 1, 16)
    bins = [(p.max(1) >= low) & (p.max(1) < high) for low, high in pairwise(edges)]
    right = p.argmax(1) == y
    expected = sum(b.mean() * abs(p.max(1)[b].mean() - right[b].mean()) for b in bins if b.any())
    assert found.ece == pytest.approx(expected, rel=1e-9)


def test_the_ranges_of_a_reliability_curve_add_up_to_the_calibration_error():
    assert reliability(TARGETS, PROBABILITIES) == [(pytest.approx(0.6), 0, 1), (pytest.approx(0.9), 1, 2)]
    rng = np.random.default_rng(0)
    p, y = rng.dirichlet(np.ones(4), 500), rng.integers(0, 4, 500)
    curve = reliability(y, p)
    assert sum(n for *_, n in curve) == 500 and [sure for sure, *_ in curve] == sorted(sure for sure, *_ in curve)
    assert sum(n * abs(sure - hits) for sure, hits, n in curve) / 500 == pytest.approx(calibration_error(y, p))
