import numpy as np
import pandas as pd
import pytest

from tasks.data.sources import csv, parquet

PEOPLE = """\
age,town,sex,clinic,part,risk
30,Ulm,f,07,train,high
41,Bonn,m,07,train,low
,Ulm,f,12,test,low
55,,m,12,test,high
"""
ROLES = {"slices": ["sex"], "group": "clinic", "split": "part"}


@pytest.fixture
def people(tmp_path):
    (tmp_path / "people.csv").write_text(PEOPLE)
    return tmp_path


def test_by_default_every_column_without_a_role_is_a_feature(people):
    raw = csv("people.csv", "risk", root=people, **ROLES)
    assert [(column.name, column.categories) for column in raw.columns] == [
        ("age", ()),
        ("town", ("Bonn", "Ulm", "(missing)")),
        ("sex", ("f", "m")),
    ]
    np.testing.assert_array_equal(
        raw.x,
        np.array([[30, 0, 1, 0, 1, 0], [41, 1, 0, 0, 0, 1], [np.nan, 0, 1, 0, 1, 0], [55, 0, 0, 1, 0, 1]], np.float32),
    )
    assert raw.classes == ("high", "low") and raw.y.tolist() == [0, 1, 1, 0]
    assert raw.slices == ("sex",) and raw.group == "clinic" and raw.given_split == "part"
    assert list(raw.table) == ["age", "town", "sex", "clinic", "part"]
    assert raw.table["clinic"].tolist() == ["07", "07", "12", "12"]  # text: 07 is not 7


def test_listed_features_are_the_only_ones_of_their_kind(people):
    raw = csv("people.csv", "risk", root=people, categorical=["clinic"])
    assert [column.name for column in raw.columns] == ["age", "clinic"]
    raw = csv("people.csv", "risk", root=people, numeric=[], categorical="sex")
    assert [column.name for column in raw.columns] == ["sex"]


def test_an_ignored_column_may_still_be_a_slice(people):
    raw = csv("people.csv", "risk", root=people, ignore=["sex", "town", "clinic", "part"], slices=["sex"])
    assert [column.name for column in raw.columns] == ["age"] and list(raw.table) == ["age", "sex"]


def test_id_names_the_rows(people):
    raw = csv("people.csv", "risk", root=people, id="clinic", group="clinic", ignore=["part"])
    assert raw.table["id"].tolist() == raw.table["clinic"].tolist() == ["07", "07", "12", "12"]
    assert "clinic" not in [column.name for column in raw.columns]


def test_parquet_gives_what_csv_gives(people):
    frame = pd.read_csv(people / "people.csv", dtype={"clinic": "str"}).astype({"age": "Int64", "sex": "category"})
    frame.index.name = "town"  # a named index is a column too
    frame.drop(columns="town").set_index(frame["town"]).to_parquet(people / "people.parquet")
    want = csv("people.csv", "risk", root=people, **ROLES)
    got = parquet("people.parquet", "risk", root=people, **ROLES)
    order = [got.columns.index(column) for column in want.columns]
    assert sorted(order) == [0, 1, 2] and got.y.tolist() == want.y.tolist() and got.classes == want.classes
    np.testing.assert_array_equal(got.x[:, 3:4], want.x[:, :1])
    np.testing.assert_array_equal(got.x[:, :3], want.x[:, 1:4])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"target": "rsik"}, "target column 'rsik' does not exist; did you mean 'risk'?"),
        ({"slices": ["sx"]}, "slices column 'sx' does not exist; did you mean 'sex'?"),
        ({"group": "qqq"}, "group column 'qqq' does not exist; there are age, town, sex, clinic, part, risk"),
        ({"numeric": ["town"]}, r"column 'town' is no number in 3 of 4 rows, e.g. 'Ulm' \(row 0\)"),
        ({"numeric": ["risk"]}, "'risk' cannot be a feature too"),
        ({"numeric": ["age"], "categorical": ["age"]}, "'age' is in numeric and in categorical"),
        ({"slices": ["risk"]}, "target 'risk' cannot be slices, group, split or id as well"),
        ({"numeric": [], "categorical": []}, "no column is a feature"),
        ({"target": "age", "ignore": ["risk"]}, "target 'age': the label is missing in 1 of 4 rows, e.g. row 2"),
    ],
)
def test_roles_that_do_not_fit_the_file(people, arguments, says):
    with pytest.raises(ValueError, match=rf"^{people}/people.csv: {says}"):
        csv(**{"path": "people.csv", "target": "risk", "root": people, **arguments})


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "no valid CSV"),
        ("a,y\n", "has no rows"),
        ("a,y\n1,p\n2,q,r,s\n", "no valid CSV: .* line 3"),
        ("a,y\n1,p,9\n2,q,9\n", "no valid CSV: .*[Ll]ength"),
        ("a,a,y\n1,2,p\n", "two columns are called 'a'"),
        ("id,y\n1,p\n", "column 'id' has the name of the row names"),
        ("a,y\n1,p\n2,p\n3,q\nfour,q\n", r"'a' holds numbers but in 1 of 4 rows, e.g. 'four' \(row 3\)"),
    ],
)
def test_a_bad_csv_is_named(tmp_path, content, says):
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(ValueError, match=f"^{tmp_path}/t.csv: .*{says}") as error:
        csv("t.csv", "y", root=tmp_path)
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_utf8_is_named(tmp_path):
    (tmp_path / "t.csv").write_bytes("a,y\nä,p\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"t.csv: no valid CSV: .*utf-8"):
        csv("t.csv", "y", root=tmp_path)


def test_a_name_per_row_is_not_made_into_a_thousand_columns(tmp_path):
    pd.DataFrame({"name": [f"n{i}" for i in range(1001)], "y": "p"}).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(ValueError, match="column 'name' has 1,001 categories, 1,000 at most"):
        csv("t.csv", "y", root=tmp_path)


def test_parquet_refuses_what_is_neither_number_nor_text(tmp_path):
    pd.DataFrame({"when": pd.to_datetime(["2020-01-01"]), "a": 1, "y": "p"}).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(ValueError, match="column 'when' holds datetime64; convert it"):
        parquet("t.parquet", "y", root=tmp_path)
    assert parquet("t.parquet", "y", root=tmp_path, ignore="when").x.tolist() == [[1]]
    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match=r"t\.parquet: no valid Parquet file"):
        parquet("t.parquet", "y", root=tmp_path)
