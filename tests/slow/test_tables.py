"""A table with numbers and a category from the CSV file to predictions and drift, as a user meets it."""

import json
import re
from collections.abc import Callable

import numpy as np
import onnxruntime
import pandas as pd
import pytest
from projects import ROOT, downsize, make_project

pytestmark = pytest.mark.timeout(1800)  # the first waits for the whole run
COLOURS = ("blue", "green", "red")
MLP = '{factory: "tasks.models.mlp:MLP", args: {hidden: [%s]}}'
SOURCE = '{factory: "tasks.data.tables:csv", args: {path: data/t.csv, target: kind, id: name, slices: [colour]}}'


def rows(count, seed):
    """`kind` follows from all three columns; a seventh of the colours is missing."""
    random = np.random.default_rng(seed)
    table = pd.DataFrame({"name": [f"{n:03}" for n in range(count)], "size": random.normal(0, 1, count).round(4)})
    table["colour"] = random.choice([*COLOURS, None], count, p=[2 / 7] * 3 + [1 / 7])
    table["weight"] = random.uniform(0, 10, count).round(3)
    score = table["size"] + (table["colour"] == "red") * 2 - (table["colour"] == "blue") * 2 + table["weight"] / 5 - 1
    table["kind"] = np.where(score > 0, "large", "small")
    return table


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = make_project(tmp_path_factory.mktemp("tables") / "project")
    text = (ROOT / "params.smoke.yaml").read_text().replace('{factory: "tasks.data.sources:digits", args: {}}', SOURCE)
    # by angle, rows of so few numbers are all alike
    text = text.replace(
        "features: raw, judge: {seeds: 1}", "features: raw, judge: null, expect: {near_duplicates: null}"
    )
    for width in ("64, 64", "24, 24"):
        text = re.sub(r"\{factory: \"tasks.models.cnn.*", MLP % width, text, count=1)
    (folder / "params.yaml").write_text(text)
    rows(1500, seed=0).to_csv(folder / "data/t.csv", index=False)
    downsize(folder, "run")
    return folder


def by_hand(variant, table):
    """Probabilities of ONNX Runtime on columns that are put together here."""
    colour = table["colour"].fillna("(missing)")
    coded = [[float(value == name) for name in (*COLOURS, "(missing)")] for value in colour]
    x = np.column_stack([table["size"], coded, table["weight"]]).astype(np.float32)
    logits = onnxruntime.InferenceSession(variant / "model.onnx").run(None, {"x": x})[0].astype(np.float64)
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_predictions_are_those_of_the_file_by_hand(project, suffix):
    new = rows(300, seed=1)
    given = new.drop(columns="kind")[["weight", "colour", "name", "size"]]
    getattr(given, f"to_{suffix}")(project / f"new.{suffix}", index=False)
    downsize(
        *(project, "predict", "--model", "artifacts/quantized", "--keep", "name"),
        *("--input", f"new.{suffix}", "--output", "out.csv"),
    )
    found = pd.read_csv(project / "out.csv", dtype={"name": str})
    expected = by_hand(project / "artifacts/quantized", new)
    np.testing.assert_allclose(found[["probability large", "probability small"]], expected, atol=1e-6)
    assert found["label"].tolist() == [("large", "small")[place] for place in expected.argmax(1)]
    assert found["name"].tolist() == new["name"].tolist()
    assert (found["label"] == new["kind"]).mean() > 0.85


NEW: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], set[str]]] = {
    "same": (lambda table: table, set()),
    "moved": (lambda table: table.assign(size=table["size"] + 2), {"size", "prediction"}),
    "unknown": (lambda table: table.assign(colour=table["colour"].replace("red", "mauve")), {"colour"}),
    "lost": (lambda table: table.assign(size=table["size"].where(table.index % 2 == 0)), {"size"}),
}


@pytest.mark.parametrize("name", NEW)
def test_drift_is_told_from_more_of_the_same(project, name):
    change, drifted = NEW[name]
    change(rows(400, seed=2)).to_csv(project / "drift.csv", index=False)
    arguments = ("drift", "--model", "artifacts/quantized", "--input", "drift.csv", "--json")
    done = downsize(project, *arguments, check=False)
    assert done.returncode == (3 if drifted else 0), done.stderr
    found = {shift["column"]: shift["drifted"] for shift in json.loads(done.stdout)}
    assert list(found) == ["size", "colour", "weight", "prediction", "confidence"]
    assert {column for column in ("size", "colour", "weight") if found[column]} == drifted - {"prediction"}
    assert found["prediction"] or "prediction" not in drifted


WRONG: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], str]] = {
    "lacking": (lambda table: table.drop(columns="colour"), "column 'colour' "),
    "empty": (lambda table: table[:0], "has no rows"),
}
ROW_WRONG: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], str]] = {
    "text": (lambda table: table.assign(size="big"), "column 'size' is 'big' in row 0; it must be a finite number"),
    "unknown": (lambda table: table.assign(colour="mauve"), "column 'colour' is 'mauve' in row 0; it must be one of"),
}
CASES = [(verb, *case) for verb in ("predict", "drift") for case in WRONG.values()]
CASES += [("predict", *case) for case in ROW_WRONG.values()]


@pytest.mark.parametrize("verb, change, line", CASES)
def test_a_table_that_does_not_fit_is_one_line(project, verb, change, line):
    change(rows(60, seed=3)).to_csv(project / "wrong.csv", index=False)
    more = ("--output", "none.csv") if verb == "predict" else ()
    done = downsize(project, verb, "--model", "artifacts/quantized", "--input", "wrong.csv", *more, check=False)
    assert done.returncode == 1 and line in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
    assert not (project / "none.csv").exists()
