"""How often the accuracy check is wrong, over a thousand drawn pairs of models each."""

from math import ceil

import numpy as np
import pytest

from tasks.evaluate.gate import accuracy_check
from tasks.measure.paired import Z_DETECT, paired_drop
from tasks.params import Budget

DRAWS = 1000
# a rate of exactly 5 % shows up to 6.2 % in 1,000 draws with 95 % confidence: 0.05 + 1.645 * sqrt(0.05 * 0.95 / 1000)
CHANCE = 0.0114
SETTINGS = [(0.02, 0.005), (0.04, 0.01), (0.05, 0.03)]  # share on which exactly one is right, margin


def passes(samples, disagreement, drop, margin, seed):
    shares = [(disagreement + drop) / 2, (disagreement - drop) / 2, 1 - disagreement]
    draws = np.random.default_rng(seed).multinomial(samples, shares, DRAWS)
    place, passed = np.arange(samples), 0
    for lost, gained, _ in draws:
        reference, right = ~((place >= lost) & (place < lost + gained)), place >= lost
        found = paired_drop(reference, right)
        passed += accuracy_check(found, samples, Budget(max_accuracy_drop=margin)).verdict == "pass"
    return passed / DRAWS


@pytest.mark.parametrize(("disagreement", "margin"), SETTINGS)
@pytest.mark.parametrize("factor", [1.25, 2])
def test_a_model_at_the_margin_passes_in_one_of_twenty_and_an_equal_one_in_four_of_five(disagreement, margin, factor):
    """Where the test split is large enough to detect a drop of the margin."""
    samples = ceil(factor * disagreement * (Z_DETECT / margin) ** 2)
    assert passes(samples, disagreement, margin, margin, seed=1) <= 0.05 + CHANCE
    assert passes(samples, disagreement, 0.0, margin, seed=2) >= 0.8


@pytest.mark.parametrize(("disagreement", "margin"), SETTINGS)
def test_a_test_split_far_too_small_never_passes_anyone(disagreement, margin):
    samples = ceil(0.5 / margin)  # 1 - 0.05^(1/n) is about 3 / n
    assert passes(samples, disagreement, 0.0, margin, seed=3) == 0
