import numpy as np
import pandas as pd
import pytest
from served_models import COLUMNS, make_served

from tasks.data import incoming
from tasks.predict import predict

ROWS = pd.DataFrame({"id": list("pqrst"), "size": [1.0, -5, 2, 3, -4], "colour": ["red"] * 4 + ["blue"]})
READ = {".csv": pd.read_csv, ".parquet": pd.read_parquet}


@pytest.fixture
def table(tmp_path, monkeypatch):
    monkeypatch.setattr(incoming, "PIECE", 2)
    ROWS.to_csv(tmp_path / "in.csv", index=False)
    return make_served(tmp_path / "model", (4,), COLUMNS)


@pytest.mark.parametrize("suffix", READ)
def test_every_row_is_answered_in_order_and_keeps_what_was_asked(table, tmp_path, suffix):
    output = tmp_path / "new" / f"out{suffix}"
    assert predict(table, tmp_path / "in.csv", output, ["id"]) == 5
    found = READ[suffix](output)
    assert list(found) == ["row", "id", "label", "probability no", "probability yes"]
    assert found["row"].tolist() == [0, 1, 2, 3, 4] and found["id"].tolist() == ROWS["id"].tolist()
    pd.testing.assert_frame_equal(found.iloc[:, 2:], table.predict(ROWS), check_dtype=False)


@pytest.mark.parametrize("suffix", READ)
def test_kept_columns_stay_as_they_are_written_in_every_piece(table, tmp_path, suffix):
    written = ["007", "1", "2.5", "x", ""]
    ROWS.assign(code=written).to_csv(tmp_path / "in.csv", index=False)
    output = tmp_path / f"out{suffix}"
    predict(table, tmp_path / "in.csv", output, ["code", "size"])
    found = pd.read_csv(output, dtype=str) if suffix == ".csv" else pd.read_parquet(output)
    assert found["code"].fillna("").tolist() == written
    assert found["size"].astype(float).tolist() == ROWS["size"].tolist()


def test_images_keep_their_row(tmp_path):
    model = make_served(tmp_path / "model", (1, 2, 2))
    np.save(tmp_path / "x.npy", np.array([1, -1, 1]).reshape(3, 1, 1, 1).repeat(2, 2).repeat(2, 3))
    predict(model, tmp_path / "x.npy", tmp_path / "out.csv")
    assert pd.read_csv(tmp_path / "out.csv")["label"].tolist() == ["yes", "no", "yes"]


@pytest.mark.parametrize(
    "output, keep, rows, line",
    [
        ("out.txt", [], ROWS, "must end in .csv or .parquet"),
        ("out.csv", ["label"], ROWS.assign(label="yes"), "--keep label: the output has a column of that name"),
        ("out.csv", ["ident"], ROWS, "--keep: column 'ident' does not exist"),
        ("out.csv", [], ROWS.assign(colour=["red"] * 4 + ["mauve"]), "column 'colour' is 'mauve' in row 4"),
        ("out.csv", [], ROWS[:0], "has no rows"),
    ],
)
def test_a_failure_leaves_no_output_and_the_old_one_as_it_was(table, tmp_path, output, keep, rows, line):
    rows.to_csv(tmp_path / "in.csv", index=False)
    (tmp_path / output).write_text("old")
    with pytest.raises(ValueError, match=line):
        predict(table, tmp_path / "in.csv", tmp_path / output, keep)
    assert (tmp_path / output).read_text() == "old"
    assert not list(tmp_path.glob("*.partial"))
