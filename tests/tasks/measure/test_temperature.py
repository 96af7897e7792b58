import numpy as np
import pytest
from scipy.special import softmax

from tasks.measure.confidence import confidence
from tasks.measure.temperature import fit_temperature


def drawn(temperature, count=20_000):
    """Labels drawn by the probabilities of logits that are then multiplied by `temperature`."""
    rng = np.random.default_rng(0)
    logits = 2 * rng.standard_normal((count, 4))
    labels = (softmax(logits, 1).cumsum(1) > rng.random((count, 1))).argmax(1)
    return temperature * logits, labels


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_the_temperature_that_spoiled_the_logits_is_found(temperature):
    logits, labels = drawn(temperature)
    found = fit_temperature(logits, labels)
    assert found == pytest.approx(temperature, rel=0.03)
    after = confidence(labels, softmax(logits / found, 1))
    assert after.ece < 0.01 and after.nll <= confidence(labels, softmax(logits, 1)).nll


def test_at_the_optimum_the_gradient_is_zero():
    logits, labels = drawn(2.0, 500)
    found = fit_temperature(logits, labels)
    probabilities = softmax(logits / found, 1)
    # d nll / d (1 / T): the mean logit that is expected less the one that is right
    slope = ((probabilities * logits).sum(1) - logits[np.arange(500), labels]).mean()
    assert abs(slope) < 1e-3


def test_answers_without_a_mistake_become_surer_within_bounds():
    assert 0.05 <= fit_temperature(np.eye(3) * 5, np.arange(3)) < 0.2
