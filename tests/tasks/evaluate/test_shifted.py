import numpy as np
import pytest
from toy import card

from tasks.data.dataset import Card, Column
from tasks.data.raw import RawData
from tasks.evaluate.leakage import refuse_seen
from tasks.evaluate.shifted import shifted_samples

AGE, HEIGHT = Column(name="age", kind="numeric"), Column(name="height", kind="numeric")


def colour(*categories):
    return Column(name="colour", kind="categorical", categories=categories)


TABLE = Card(
    name="t", kind="tabular", samples=0, input_shape=(4,), classes=("a", "b", "c"),
    columns=(AGE, colour("blue", "red"), HEIGHT),
)  # fmt: skip


def test_columns_and_classes_are_matched_by_name_and_an_unknown_category_is_none():
    x = np.array([[0, 1, 0, 170, 30], [1, 0, 0, 180, 40], [0, 0, 1, 190, 50]], np.float32)
    raw = RawData(x, np.array([0, 1, 0]), ("c", "a"), columns=(colour("green", "red", "blue"), HEIGHT, AGE))
    found = shifted_samples(raw, TABLE)
    assert found.inputs(slice(None)).tolist() == [[30, 0, 1, 170], [40, 0, 0, 180], [50, 1, 0, 190]]
    assert found.targets(slice(None)).tolist() == [2, 0, 2]


@pytest.mark.parametrize(
    ("x", "classes", "columns", "says"),
    [
        (np.zeros((1, 4)), ("z",), TABLE.columns, "class 'z' is none that the models know: a, b, c"),
        (np.zeros((1, 3)), ("a",), (AGE, colour("red", "blue")), "has no numeric column 'height'"),
        (np.zeros((1, 3)), ("a",), (AGE, Column(name="colour", kind="numeric"), HEIGHT), "no categorical column 'col"),
        (np.full((1, 4), np.nan), ("a",), TABLE.columns, "x holds missing or infinite numbers"),
    ],
)
def test_what_does_not_fit_is_refused(x, classes, columns, says):
    with pytest.raises(ValueError, match=says) as error:
        shifted_samples(RawData(x.astype(np.float32), np.zeros(1, int), classes, columns=columns), TABLE)
    assert str(error.value).startswith("evaluate.shifted: ")


def test_images_of_another_size_are_refused():
    raw = RawData(np.zeros((2, 1, 9, 9), np.uint8), np.zeros(2, int), ("a",))
    with pytest.raises(ValueError, match=r"a sample is \(1, 9, 9\); the models take \(1, 8, 8\)"):
        shifted_samples(raw, card((1, 8, 8)))


def test_samples_that_training_saw_are_refused_by_hash_and_named():
    with pytest.raises(
        ValueError, match=r"evaluate: 2 of 3 test samples have the same content .* of training, e.g. 7, 9;"
    ):
        refuse_seen("test samples", {"h7": 7, "h8": 8, "h9": 9}, {"validation": ["x"], "training": ["h9", "h7", "y"]})
    refuse_seen("test samples", {"h7": 7}, {"training": ["h8"]})
