import json

import numpy as np
import pandas as pd
import pytest

from tasks.data.dataset import Card, Column, save_dataset
from tasks.data.raw import RawData
from tasks.files import Files
from tasks.ingest import sample_table
from tasks.params import Expectation, Range, Validate
from tasks.validate import validate

ROWS = 40


def table():
    """Two classes stored one after the other, as image folders and wine are; age and town say nothing of them."""
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "age": rng.permutation(ROWS) + 20.5,
            "town": np.where(np.arange(ROWS) % 3 == 0, "Ulm", "Bonn"),
            "label": np.repeat(["no", "yes"], ROWS // 2),
        }
    )


@pytest.fixture
def run(tmp_path):
    """Validate a frame like `table()`, each of its other columns a numeric feature."""

    def run(frame, **params):
        classes = tuple(sorted(set(frame["label"])))
        y = frame["label"].map({name: index for index, name in enumerate(classes)}).to_numpy()
        numeric = [name for name in frame if name not in ("label", "town", "id")]
        x = np.column_stack([frame[numeric].to_numpy(np.float32), frame["town"] == "Bonn", frame["town"] == "Ulm"])
        columns = [Column(name=name, kind="numeric") for name in numeric]
        columns.append(Column(name="town", kind="categorical", categories=("Bonn", "Ulm")))
        raw = RawData(x.astype(np.float32), y, classes, frame.drop(columns="label"), tuple(columns))
        card = Card(name="t", kind="tabular", samples=0, input_shape=(), classes=classes, columns=raw.columns)
        save_dataset(tmp_path / "data", raw.x, raw.y, sample_table(raw), card)
        return validate(Validate(**params), files(tmp_path))

    return run


def files(folder):
    return Files({"data": folder / "data"}, {"validation": folder / "validation.json", "docs": folder / "docs"})


def test_good_data_pass_and_leave_a_small_stable_file(run, tmp_path):
    frame = table()
    frame.loc[1] = frame.loc[0]  # an exact duplicate
    frame.loc[39, ["age", "town"]] = frame.loc[0, ["age", "town"]]  # the same once more, under the other label
    metrics = run(
        frame,
        not_null=["age"],
        classes=["no", "yes"],
        ranges={"age": Range(min=18.0)},
        types={"age": "float64", "town": "str"},
        expectations=[Expectation(type="ExpectColumnMeanToBeBetween", kwargs={"column": "age", "max_value": 50})],
    )
    assert metrics == {"expectations": 16, "duplicates": 2, "contradictions": 3}
    first = (tmp_path / "validation.json").read_bytes()
    content = json.loads(first)
    assert content["duplicates"] == 2 and len(content["rules"]) == 16 and len(first) < 5000
    assert (tmp_path / "docs" / "index.html").is_file()
    (tmp_path / "docs" / "of_another_run.html").touch()
    validate(Validate(), files(tmp_path))
    assert not (tmp_path / "docs" / "of_another_run.html").exists()


def test_every_failure_is_told_in_one_line_with_rows(run, tmp_path):
    frame = table().assign(flat=7.0, number=np.arange(ROWS) + 1000)
    frame["id"] = [f"p{row}" for row in range(ROWS - 1)] + ["p0"]
    frame.loc[[4, 17], "age"] = np.nan
    frame.loc[3, "age"] = np.inf
    frame.loc[39, "label"] = "perhaps"
    with pytest.raises(ValueError, match=r"^validate: 15 of 17 expectations failed") as error:
        run(
            frame,
            not_null=["age"],
            unique=["town"],
            classes=["no", "yes", "never"],
            ranges={"number": Range(max=1037.0)},
            types={"town": "int64"},
            expectations=[
                Expectation(type="ExpectColumnMaxToBeBetween", kwargs={"column": "number", "max_value": 9}),
                Expectation(type="ExpectColumnValuesToMatchRegex", kwargs={"column": "town", "regex": "("}),
            ],
        )
    assert "\n" not in str(error.value) and str(tmp_path / "docs" / "index.html") in str(error.value)
    assert (tmp_path / "docs" / "index.html").is_file() and not (tmp_path / "validation.json").exists()
    told = str(error.value)
    for phrase in (
        "ExpectColumnValuesToBeUnique samples.id: 2 of 40, id p0, p0",
        "samples.non-finite values in x (max_value 0): 3 of 40, id p3 (1), p4 (1), p17 (1)",
        "columns.nan (max_value 0): 1 of 5, column age (2); fill or drop them",
        "columns.inf (max_value 0): 1 of 5, column age (1);",
        "classes.samples (min_value 4): 1 of 3, class perhaps (1); add samples",
        "columns.constant (value_set [False]): 1 of 5, column flat (True);",
        "columns.tells_label (value_set [False]): 1 of 5, column number (True); an identifier",
        "ExpectColumnValuesToNotBeNull samples.age: 2 of 40, id p4 (nan), p17 (nan)",
        "ExpectColumnValuesToBeUnique samples.town: 40 of 40, id p0 (Ulm), p1 (Bonn), p2 (Bonn), p3 (Ulm), p4 (",
        "ExpectColumnValuesToBeOfType samples.town (type_ int64): found str",
        "samples.number (max_value 1037): 2 of 40, id p38 (1038), p0 (1039)",
        "samples.label (value_set ['no', 'yes', 'never']): 1 of 40, id p0 (perhaps)",
        "ExpectColumnDistinctValuesToContainSet samples.label (value_set ['no', 'yes', 'never']): missing ['never']",
        "ExpectColumnMaxToBeBetween samples.number (max_value 9): found 1039",
        "ExpectColumnValuesToMatchRegex samples.town (regex (): could not be evaluated: Invalid regular expression",
    ):
        assert phrase in told, phrase


def test_what_is_allowed_is_not_checked(run):
    frame = table().assign(flat=7.0, number=np.arange(ROWS))
    assert run(frame, allow=["constant", "identifier"])["expectations"] == 7


def test_an_id_of_the_users_must_not_sort_the_classes(run):
    with pytest.raises(ValueError, match=r"1 of 9 .* columns.tells_label .*: 1 of 3, column id \(True\)"):
        run(table().assign(id=[f"{label}-{row}" for row, label in enumerate(table()["label"])]))


def test_images_pass_though_pixels_are_constant_and_rows_sorted_by_class(tmp_path):
    x = np.zeros((ROWS, 1, 4, 4), np.float32)
    x[:, 0, 1, 1] = np.arange(ROWS)
    y = np.repeat([0, 1], ROWS // 2)
    card = Card(name="i", kind="image", samples=0, input_shape=(), classes=("a", "b", "c"))
    raw = RawData(x, y, card.classes)
    x[33, 0, 0, 0] = np.nan
    save_dataset(tmp_path / "data", x, y, sample_table(raw), card)
    with pytest.raises(ValueError, match="3 of 9") as error:
        validate(Validate(), files(tmp_path))
    assert "in x (max_value 0): 1 of 40, id 33 (1)" in str(error.value)
    assert "columns.nan (max_value 0): 1 of 1, column channel 0 (1)" in str(error.value)
    assert "classes.samples (min_value 4): 1 of 3, class c (0)" in str(error.value)  # a class without any sample


@pytest.mark.parametrize(
    ("params", "says"),
    [
        (
            {"expectations": [Expectation(type="ExpectColumnMaxToBeBetwen", kwargs={})]},
            "validate.expectations: Great Expectations has no 'ExpectColumnMaxToBeBetwen'; "
            "did you mean 'ExpectColumnMaxToBeBetween'",
        ),
        ({"expectations": [Expectation(type="Expectation")]}, "Great Expectations has no 'Expectation'"),
        (
            {"expectations": [Expectation(type="ExpectColumnMaxToBeBetween", kwargs={"column": "age", "max": 1})]},
            "takes no 'max'; did you mean 'max_value'",
        ),
        (
            {"expectations": [Expectation(type="ExpectColumnMaxToBeBetween", kwargs={"max_value": 1})]},
            "validate.expectations: ExpectColumnMaxToBeBetween: column: field required",
        ),
        ({"ranges": {"agee": Range(min=1.0)}}, "validate.ranges: .* no column 'agee' in the data; did you mean 'age'"),
        ({"not_null": ["twn"]}, "validate.not_null: .* no column 'twn' in the data; did you mean 'town'"),
        ({"ranges": {"age": Range()}}, "validate.ranges.age is empty; give min, max or both"),
    ],
)
def test_rules_about_what_does_not_exist(run, params, says):
    with pytest.raises(ValueError, match=says) as error:
        run(table(), **params)
    assert "\n" not in str(error.value)
