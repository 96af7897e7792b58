import numpy as np
import pandas as pd
import pytest
from served_models import COLUMNS, make_served

from tasks.data.dataset import Card, Column, save_dataset
from tasks.drift import drift
from tasks.served import Served

RANDOM = np.random.default_rng(0)


def rows(count, size=0.0):
    return pd.DataFrame({"size": RANDOM.normal(size, 1, count), "colour": RANDOM.choice(["blue", "red"], count)})


def save(folder, x, table, card):
    save_dataset(folder / "data", x, np.arange(len(x)) % 2, table, card)
    order = RANDOM.permutation(len(x))
    np.savez(folder / "split.npz", train=order[:600], validation=order[600:700], test=order[700:])


@pytest.fixture
def table(tmp_path):
    model, raw = make_served(tmp_path / "model", (4,), COLUMNS), rows(1000)
    columns = tuple(Column(**column) for column in COLUMNS)
    card = Card(name="t", kind="tabular", samples=0, input_shape=(4,), classes=("no", "yes"), columns=columns)
    save(tmp_path, model.encode(raw), raw.assign(id=range(1000), label="no"), card)
    return tmp_path


def found(folder, new):
    new.to_csv(folder / "new.csv", index=False)
    served = Served(folder / "model", folder / "model" / "model.onnx")
    return {shift.column: shift.drifted for shift in drift(served, folder, folder / "new.csv", seed=0)}


def test_more_of_the_same_has_not_drifted(table):
    assert found(table, rows(500)) == {"size": False, "colour": False, "prediction": False, "confidence": False}


def test_a_moved_column_moves_the_answers_with_it(table):
    assert found(table, rows(500, size=2)) == {"size": True, "colour": False, "prediction": True, "confidence": True}


def test_darker_images_have_drifted(tmp_path):
    served = make_served(tmp_path / "model", (1, 2, 2))
    x = RANDOM.normal(0, 1, (1000, 1, 2, 2)).astype(np.float32)
    table = pd.DataFrame({"id": range(1000), "label": "no"})
    save(tmp_path, x, table, Card(name="i", kind="image", samples=0, input_shape=(1,), classes=("no", "yes")))
    np.save(tmp_path / "new.npy", RANDOM.normal(-1, 1, (400, 1, 2, 2)))
    shifts = {shift.column: shift for shift in drift(served, tmp_path, tmp_path / "new.npy", seed=0)}
    assert shifts["mean"].drifted and shifts["prediction"].drifted and not shifts["std"].drifted
    assert list(shifts) == ["mean", "std", "min", "max", "prediction", "confidence"]


def test_rows_that_the_model_refuses_are_drift_of_their_column_and_have_no_answer(table):
    new = rows(500)
    new["colour"] = new["colour"].replace("red", "mauve")
    assert found(table, new)["colour"]
    lost = new.assign(colour="blue", size=new["size"].astype(object).where(new.index % 2 == 0, "n/a?"))
    assert found(table, lost)["size"]
    # no row has an answer
    assert found(table, rows(500).assign(size=np.nan)) == {"size": True, "colour": False}


def test_a_column_that_is_missing_is_named(table):
    with pytest.raises(ValueError, match=r"new.csv: column 'size' does not exist; did you mean 'sizes'"):
        found(table, rows(500).rename(columns={"size": "sizes"}))


def test_arrays_for_a_table_are_refused(table):
    np.save(table / "new.npy", np.zeros((5, 4)))
    served = Served(table / "model", table / "model" / "model.onnx")
    with pytest.raises(ValueError, match="must be a table"):
        drift(served, table, table / "new.npy", seed=0)
