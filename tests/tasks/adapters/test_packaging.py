"""A version of tabular data: MLflow itself checks the columns, and hands raw rows on."""

import mlflow
import numpy as np
import pandas as pd
import pytest
from served_models import COLUMNS, make_served

from tasks.adapters.packaging import save_variant

ROWS = pd.DataFrame({"size": [1.5, -3.0], "colour": ["red", "blue"]})


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tabular")
    served = make_served(folder / "model", (4,), COLUMNS)
    save_variant(folder / "model", folder / "saved", ROWS, model_id="m-1", run_id="r")
    return served, mlflow.pyfunc.load_model(str(folder / "saved"))


def test_raw_rows_are_answered_as_by_the_file(saved):
    served, model = saved
    pd.testing.assert_frame_equal(model.predict(ROWS), served.predict(ROWS))
    pd.testing.assert_frame_equal(model.input_example, ROWS)


def test_further_columns_do_not_matter(saved):
    served, model = saved
    pd.testing.assert_frame_equal(model.predict(ROWS.assign(note="x")), served.predict(ROWS))


@pytest.mark.parametrize(
    "rows, words",
    [(ROWS.drop(columns="size"), "missing inputs ['size']"), (ROWS.assign(size=["big", "small"]), "size")],
)
def test_another_schema_is_refused_by_column(saved, rows, words):
    with pytest.raises(mlflow.exceptions.MlflowException) as caught:
        saved[1].predict(rows)
    assert words in str(caught.value)


def test_a_category_that_was_never_seen_is_named(saved):
    with pytest.raises(ValueError, match="column 'colour' is 'mauve' in row 1"):
        saved[1].predict(ROWS.assign(colour=["red", "mauve"]))


def test_an_array_of_the_wrong_shape_is_refused(tmp_path):
    make_served(tmp_path / "model", (1, 2, 2))
    x = np.zeros((2, 1, 2, 2), np.float32)
    save_variant(tmp_path / "model", tmp_path / "saved", x, model_id="m-2", run_id="r")
    model = mlflow.pyfunc.load_model(str(tmp_path / "saved"))
    assert model.predict({"x": x})["label"].tolist() == ["no", "no"]
    with pytest.raises(mlflow.exceptions.MlflowException, match="shape"):
        model.predict({"x": x[:, :, :1]})
