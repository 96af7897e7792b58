from itertools import pairwise

import pytest

from tasks.prune.schedules import SCHEDULES, cubic, linear, one_shot


def test_schedules_by_hand():
    assert one_shot() == [1]
    assert linear(4) == [0.25, 0.5, 0.75, 1]
    assert cubic(2) == [0.875, 1]


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 50])
def test_any_schedule_rises_and_ends_at_exactly_all_of_the_cut(name, steps):
    shares = SCHEDULES[name](steps)
    assert len(shares) == (1 if name == "one_shot" else steps)
    assert shares[-1] == 1 and shares[0] > 0
    assert all(earlier < later for earlier, later in pairwise(shares))


def test_cubic_cuts_less_with_every_step():
    shares = [0, *cubic(6)]
    cuts = [later - earlier for earlier, later in pairwise(shares)]
    assert cuts == sorted(cuts, reverse=True)
