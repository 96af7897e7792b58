import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2_contingency, ks_2samp

from tasks.measure import drift

RANDOM = np.random.default_rng(0)
BEFORE = pd.DataFrame({"size": RANDOM.normal(0, 1, 3000), "colour": RANDOM.choice(["red", "blue"], 3000)})
KINDS = {"size": "numeric", "colour": "categorical"}


def shifts(reference, new, kinds):
    return drift.shifts(dict(reference.items()), dict(new.items()), kinds)


def new(**changed):
    same = {"size": RANDOM.normal(0, 1, 1000), "colour": RANDOM.choice(["red", "blue"], 1000)}
    return pd.DataFrame({**same, **changed})


def test_more_of_the_same_is_no_drift():
    assert not any(shift.drifted for shift in shifts(BEFORE, new(), KINDS))


def test_a_moved_mean_and_a_new_category_are_found_each_in_its_own_column():
    moved = shifts(BEFORE, new(size=RANDOM.normal(1, 1, 1000)), KINDS)
    assert [shift.drifted for shift in moved] == [True, False]
    recoloured = shifts(BEFORE, new(colour=RANDOM.choice(["red", "blue", "green"], 1000)), KINDS)
    assert [shift.drifted for shift in recoloured] == [False, True]
    assert recoloured[1].before == "green 0.0%"


def test_figures_are_scipy_s_adjusted_for_two_columns():
    after = new(size=RANDOM.normal(0.1, 1, 1000))
    size, colour = shifts(BEFORE, after, KINDS)
    ks = ks_2samp(BEFORE["size"], after["size"])
    counts = [[(frame.colour == name).sum() for name in ("blue", "red")] for frame in (BEFORE, after)]
    chi2 = chi2_contingency(counts, correction=False)
    assert size.distance == ks.statistic
    first, second = sorted([ks.pvalue, chi2.pvalue])
    assert sorted([size.p_value, colour.p_value]) == pytest.approx([min(1, 2 * first), max(2 * first, second)])
    red = [(frame.colour == "red").mean() for frame in (BEFORE, after)]
    assert colour.distance == pytest.approx(abs(red[0] - red[1]))


def test_a_difference_that_is_no_chance_but_small_is_no_drift():
    many = pd.DataFrame({"size": RANDOM.normal(0, 1, 200_000)})
    (shift,) = shifts(many, many + 0.05, {"size": "numeric"})
    assert shift.p_value < 1e-6 and not shift.drifted


@pytest.mark.parametrize("kind, column", [("numeric", "size"), ("categorical", "colour")])
def test_values_that_are_missing_all_at_once_are_drift(kind, column):
    gone = new()
    gone[column] = gone[column].where(np.arange(1000) % 2 == 0)
    (shift,) = shifts(BEFORE, gone, {column: kind})
    assert shift.drifted
    assert shift.after.endswith(" 50.0%" if kind == "categorical" else ", 50.0% missing")


def test_no_rows_is_said():
    with pytest.raises(ValueError, match="the new data have no rows"):
        shifts(BEFORE, BEFORE[:0], KINDS)
