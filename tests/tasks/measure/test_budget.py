import numpy as np
import pytest

from tasks.measure.budget import Limits, Lost, lost
from tasks.measure.paired import paired_drop

CLASSES = np.array([0, 0, 0, 0, 1, 1, 2, 2])
REFERENCE = np.array([1, 1, 1, 0, 1, 1, 1, 0], bool)
RIGHT = np.array([1, 1, 0, 0, 1, 0, 1, 1], bool)


def test_what_is_lost_by_hand():
    found = lost(REFERENCE, RIGHT, CLASSES)
    assert found.accuracy_drop == 1 / 8  # two lost, one gained
    assert found.accuracy_drop_upper95 == paired_drop(REFERENCE, RIGHT).upper95
    assert found.class_recall_drop == 0.5  # of class 1; class 0 lost a quarter, class 2 has gained


@pytest.mark.parametrize(
    ("limits", "within"),
    [
        (Limits(0.05, 0.02), True),
        (Limits(0.049, 0.02), False),  # the drop itself would do
        (Limits(0.05, 0.019), False),
        (Limits(0.05, 0.98 - 0.96), True),  # which is a rounding error below 0.02
        (Limits(0.05, None), True),
    ],
)
def test_within_goes_by_the_upper_limit_and_the_class(limits, within):
    assert Lost(0.01, 0.05, 0.02).within(limits) == within
