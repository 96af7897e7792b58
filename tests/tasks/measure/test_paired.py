import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import binom, bootstrap, chi2
from statsmodels.stats.contingency_tables import mcnemar as reference
from statsmodels.stats.multitest import multipletests

from tasks.measure.paired import (
    bootstrap_interval,
    holm,
    mcnemar,
    mcnemar_exact,
    paired_drop,
    samples_to_prove,
    score_limit,
    unseen,
    upper_limit,
)


def answers(both, lost, gained, neither=0):
    """Whether the reference and the other model are right, sample by sample."""
    counts = (both, lost, gained, neither)
    return np.repeat([True, True, False, False], counts), np.repeat([True, False, True, False], counts)


@pytest.mark.parametrize(
    ("lost", "gained"),
    [(0, 1), (1, 0), (3, 3), (5, 0), (20, 4), (24, 0), (0, 25), (12, 13), (20, 5), (40, 39), (123, 106)],
)
def test_mcnemar_agrees_with_statsmodels(lost, gained):
    exact = lost + gained < 25
    expected = reference([[50, lost], [gained, 7]], exact=exact, correction=True).pvalue
    assert mcnemar(lost, gained) == pytest.approx(expected, abs=1e-9, rel=1e-9)


def test_golden_mcnemar_of_section_6():
    assert mcnemar(123, 106) == pytest.approx(0.2904, abs=5e-5)
    assert chi2.isf(mcnemar(123, 106), 1) == pytest.approx(1.1179, abs=5e-5)
    assert mcnemar(287, 147) == pytest.approx(chi2.sf(44.518, 1), rel=1e-3)
    assert chi2.isf(mcnemar(287, 147), 1) == pytest.approx(44.518, abs=5e-4)


@pytest.mark.parametrize(("lost", "gained", "n"), [(10, 4, 100), (3, 0, 361), (217, 139, 10_000), (2, 9, 50)])
def test_at_the_score_limit_the_likeliest_shares_are_just_not_rejected(lost, gained, n):
    """The share of gains is found by maximising the likelihood, not by the formula."""
    limit = score_limit(lost, gained, n)

    def surprise(gain):
        return -(
            lost * np.log(gain + limit) + gained * np.log(gain) + (n - lost - gained) * np.log(1 - 2 * gain - limit)
        )

    low, high = max(0, -limit) + 1e-12, (1 - limit) / 2 - 1e-12
    gain = minimize_scalar(surprise, bounds=(low, high), method="bounded", options={"xatol": 1e-12}).x
    spread = np.sqrt(n * (2 * gain + limit * (1 - limit)))
    assert (n * limit - (lost - gained)) / spread == pytest.approx(1.6448536, abs=1e-3)


def test_the_samples_that_would_decide_do_decide_where_the_floor_rules():
    """No loss in 100: the floor is 2.95 pp. 1 pp needs log(0.05) / log(0.99), 298.07, not 100 * 2.95^2."""
    found = paired_drop(*answers(100, 0, 0))
    assert samples_to_prove(found, 0.01) == 299
    assert unseen(299) <= 0.01 < unseen(298)


def test_the_samples_that_would_decide_do_decide_where_the_interval_rules():
    found = paired_drop(*answers(360, 24, 16))  # a drop of 2 %
    needed = samples_to_prove(found, 0.03)
    scale = needed / 400
    again = paired_drop(*answers(*(round(count * scale) for count in (360, 24, 16))))
    assert again.upper95 == pytest.approx(0.03, abs=2e-4)
    assert samples_to_prove(found, 0.02) is None and samples_to_prove(found, 0.0) is None


def test_exact_mcnemar_agrees_with_statsmodels():
    for lost, gained in ((0, 0), (1, 0), (9, 2), (30, 10), (123, 106)):
        expected = reference([[50, lost], [gained, 7]], exact=True).pvalue if lost + gained else 1
        assert mcnemar_exact(lost, gained) == pytest.approx(expected, abs=1e-9)


def test_mcnemar_is_symmetric_and_one_without_disagreement():
    assert mcnemar(30, 10) == mcnemar(10, 30) and mcnemar(9, 2) == mcnemar(2, 9)
    assert mcnemar(0, 0) == 1
    assert mcnemar(20, 20) <= 1


def test_the_upper_limit_by_hand():
    """n 100, 10 lost, 4 gained; Wald's 0.06 + 1.64485 * sqrt(14 - 36 / 100) / 100 is 0.120749."""
    found = paired_drop(*answers(80, 10, 4, 6))
    assert found.drop == pytest.approx(0.06)
    assert found.upper95 == pytest.approx(0.126983, abs=1e-6)
    assert found.smallest_detectable == pytest.approx(2.486475 * 14**0.5 / 100, abs=1e-6)
    assert found.mcnemar_p == mcnemar(10, 4)


@pytest.mark.parametrize("n", [1, 30, 360, 10_000])
def test_not_one_loss_in_n_samples_still_has_an_upper_limit(n):
    found = paired_drop(*answers(n, 0, 0))
    assert found.drop == 0 and found.mcnemar_p == 1
    assert found.upper95 == pytest.approx(1 - 0.05 ** (1 / n))
    assert (1 - found.upper95) ** n == pytest.approx(0.05)  # so often would a true loss of that size stay unseen


def test_a_better_model_has_a_negative_drop_and_still_no_limit_below_that():
    found = paired_drop(*answers(50, 0, 50))
    assert found.drop == -0.5 and found.upper95 == pytest.approx(1 - 0.05**0.01)


def test_only_the_pairing_of_wrong_answers_matters():
    """The same accuracies, 0.9 and 0.9: once wrong on the same samples, once on others."""
    same, other = paired_drop(*answers(90, 0, 0, 10)), paired_drop(*answers(80, 10, 10, 0))
    assert same.drop == other.drop == 0 and same.upper95 < other.upper95


def test_the_limit_covers_the_true_drop_in_about_95_of_100_cases():
    rng = np.random.default_rng(0)
    draws = rng.multinomial(500, [0.80, 0.08, 0.03, 0.09], size=1000)
    covered = [paired_drop(*answers(*draw)).upper95 >= 0.05 for draw in draws]
    assert 0.93 < np.mean(covered) < 0.97


@pytest.mark.parametrize("count", [1, 2, 5, 40])
@pytest.mark.parametrize("seed", range(5))
def test_holm_agrees_with_statsmodels(count, seed):
    p_values = np.random.default_rng(seed).beta(0.3, 2, count).round(2)  # with ties
    assert holm(p_values.tolist()) == pytest.approx(multipletests(p_values, method="holm")[1].tolist(), abs=1e-12)


def test_holm_by_hand():
    """The smallest counts three times, the next twice, and none falls below one that was smaller."""
    assert holm([0.03, 0.01, 0.04]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.9, 0.8]) == [1, 1] and holm([]) == []


@pytest.mark.parametrize(("lost", "gained", "n"), [(10, 4, 100), (30, 5, 400), (0, 8, 200)])
def test_the_bootstrap_interval_is_scipys(lost, gained, n):
    """SciPy resamples the differences one by one; both draw 10,000 times."""
    found = bootstrap_interval(paired_drop(*answers(n - lost - gained, lost, gained)), n)
    differences = np.repeat([1.0, -1.0, 0.0], (lost, gained, n - lost - gained))
    expected = bootstrap(
        (differences,), np.mean, confidence_level=0.9, method="percentile", n_resamples=10_000, rng=1
    ).confidence_interval
    assert found == pytest.approx((expected.low, expected.high), abs=1.1 / n)


def test_the_bootstrap_without_gains_is_a_binomial():
    found = bootstrap_interval(paired_drop(*answers(180, 20, 0)), 200)
    assert found == pytest.approx((binom.ppf(0.05, 200, 0.1) / 200, binom.ppf(0.95, 200, 0.1) / 200), abs=1e-9)
    assert bootstrap_interval(paired_drop(*answers(9, 0, 0)), 9) == (0, 0)


def test_a_stricter_level_gives_a_higher_limit():
    """Without a loss in n samples the limit is 1 - alpha^(1/n), the exact binomial one."""
    assert upper_limit(0, 0, 300, alpha=0.05) == pytest.approx(1 - 0.05 ** (1 / 300))
    limits = [upper_limit(12, 5, 300, alpha=alpha) for alpha in (0.05, 0.025, 0.05 / 30)]
    assert limits == sorted(limits) and limits[0] < limits[1] < limits[2]
    assert score_limit(12, 5, 300, alpha=0.5) == pytest.approx(7 / 300)


@pytest.mark.parametrize("lost", range(6))
def test_two_models_that_never_agree_have_an_interval_too(lost):
    reference = np.arange(5) < lost
    found = paired_drop(reference, ~reference)
    low, high = bootstrap_interval(found, 5)
    assert low <= found.drop <= high and (low < high) == (0 < lost < 5)
