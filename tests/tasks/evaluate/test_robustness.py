import numpy as np
import pytest
from scipy.stats import ttest_rel
from statsmodels.stats.multitest import multipletests

from tasks.evaluate.gate import corruption_check
from tasks.evaluate.robustness import Robustness, compare_corrupted


def drawn(seed, n=300, severities=2):
    rng = np.random.default_rng(seed)
    clean = (rng.random(n) < 0.99, rng.random(n) < 0.98)
    under = {
        name: (rng.random((severities, n)) < 0.9, rng.random((severities, n)) < share)
        for name, share in (("noise", 0.9), ("blur", 0.85), ("rotate", 0.7))
    }
    return clean, under


def test_by_hand():
    """Four samples; clean: one lost. Noise at two severities: two lost, then three, and none gained."""
    yes, no = True, False
    clean = (np.array([yes] * 4), np.array([yes, yes, yes, no]))
    noise = (np.array([[yes] * 4] * 2), np.array([[yes, yes, no, no], [yes, no, no, no]]))
    (found,) = compare_corrupted(clean, {"noise": noise})
    assert (found.reference, found.accuracy, found.drop, found.increase) == (1, 3 / 8, 5 / 8, 3 / 8)


@pytest.mark.parametrize("seed", range(3))
def test_p_is_scipys_paired_t_test_by_statsmodels_holm(seed):
    clean, under = drawn(seed)
    found = compare_corrupted(clean, under)
    single = [
        ttest_rel(reference.mean(0) - right.mean(0), clean[0].astype(float) - clean[1], alternative="greater").pvalue
        for reference, right in under.values()
    ]
    assert [one.p for one in found] == pytest.approx(multipletests(single, method="holm")[1].tolist(), abs=1e-9)


def test_an_equal_file_has_no_drop_and_no_doubt():
    (clean, _), under = drawn(0)
    found = compare_corrupted((clean, clean), {name: (right, right) for name, (right, _) in under.items()})
    assert {(one.drop, one.increase, one.p) for one in found} == {(0, 0, 1)}


def found(increase, p, name="rotate"):
    return Robustness(name, 0.9, 0.9 - increase - 0.01, increase + 0.01, increase, 0.2, p)


def test_a_file_that_loses_more_under_a_corruption_fails_with_it_named():
    clean, under = drawn(1)
    check = corruption_check(compare_corrupted(clean, under), 300, 0.02)
    assert (check.name, check.verdict) == ("corruption_drop_increase", "fail")
    assert check.note.startswith("rotate: drop 18.00 pp against 1.33 pp") and check.note.endswith(
        "pp on the same 300 clean samples"
    )


def test_what_may_be_chance_is_open_and_says_how_many_samples_would_decide():
    """Of two the surer must lie 1.95996 standard errors, 0.2 / sqrt(n), above zero: n = (1.95996 * 0.2 / 0.03)^2."""
    check = corruption_check([found(0.03, 0.2), found(0.01, 0.01, "blur")], 100, 0.02)
    assert (check.verdict, check.value, check.decides) == ("inconclusive", 0.03, 171)
    assert check.note.endswith("; 171 samples would decide")


def test_within_the_limit_passes_but_not_with_few_samples():
    assert corruption_check([found(0.02, 0.001)], 50, 0.02).verdict == "pass"
    few = corruption_check([found(0.0, 1.0)], 49, 0.02)
    assert (few.verdict, few.decides) == ("inconclusive", 50)
