import hashlib
import json

import numpy as np
import pandas as pd
import pytest

from tasks.data.dataset import load_dataset
from tasks.data.raw import RawData
from tasks.files import Files
from tasks.ingest import ingest
from tasks.params import Factory, Ingest


@pytest.fixture
def run(tmp_path):
    """Ingest a source and open what it wrote, with the metrics."""

    def run(factory, name="out", seed=0, **args):
        (tmp_path / "data").mkdir(exist_ok=True)
        files = Files({"source": tmp_path / "data"}, {"data": tmp_path / name})
        metrics = ingest(Ingest(source=Factory(factory=factory, args=args)), seed, files)
        return load_dataset(tmp_path / name), metrics

    return run


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A module of the user's whose `load` is the function given."""

    def own(load):
        import sys
        from types import ModuleType

        module = ModuleType("own_source")
        module.load = load
        monkeypatch.setitem(sys.modules, "own_source", module)
        return "own_source:load"

    return own


def test_images_get_row_numbers_labels_figures_and_hashes(run):
    data, metrics = run("tasks.data.sources:digits")
    assert metrics == {"samples": 1797, "classes": 10, "features": 64}
    assert data.card.kind == "image" and data.card.input_shape == (1, 8, 8) and data.card.name == "digits"
    table = data.table()
    figures = ["height", "width", "channels", "mean", "std", "min", "max", "nan_fraction"]
    assert list(table) == ["id", "label", *figures, "sha1"]
    row, image = table.iloc[5], data.x[5]
    assert (row["id"], row["label"]) == (5, str(data.y[5]))
    assert row["mean"] == np.float32(image.mean()) and row["std"] == np.float32(image.std())
    assert row["sha1"] == hashlib.sha1(image.tobytes()).hexdigest()


def test_a_table_keeps_its_columns_as_they_were(run, tmp_path):
    (tmp_path / "t.csv").write_text("age,town,kind\n30,Ulm,b\n,,a\n")
    data, _ = run("tasks.data.sources:csv", path="t.csv", target="kind")
    table = data.table()
    assert list(table) == ["id", "label", "age", "town", "sha1"] and table["label"].tolist() == ["b", "a"]
    assert table["age"][0] == 30 and table[["age", "town"]].iloc[1].isna().all()
    assert np.isnan(data.x[1, 0])  # not ingest's to refuse
    assert data.card.source == {
        "factory": "tasks.data.sources:csv",
        "args": {"path": "t.csv", "target": "kind"},
    }


def test_ids_of_the_source_replace_the_row_numbers(run, tmp_path):
    (tmp_path / "t.csv").write_text("pid,a,kind\n007,1,x\n006,2,y\n")
    data, _ = run("tasks.data.sources:csv", path="t.csv", target="kind", id="pid")
    assert data.table(["id"])["id"].tolist() == ["007", "006"]


def test_twice_the_same_bytes(run):
    first, second = (run("tasks.data.sources:digits", name)[0].folder for name in ("one", "two"))
    for path in sorted(first.iterdir()):
        assert path.read_bytes() == (second / path.name).read_bytes(), path.name


def test_a_users_source_is_offered_seed_and_root(run, own, tmp_path):
    def load(*, rows, seed, root):
        assert root == tmp_path
        return np.random.default_rng(seed).random((rows, 3)), np.arange(rows) % 2, pd.DataFrame({"site": ["s"] * rows})

    data, metrics = run(own(load), seed=5, rows=6)
    np.testing.assert_array_equal(data.x, np.random.default_rng(5).random((6, 3)).astype(np.float32))
    assert metrics["features"] == 3 and list(data.table()) == ["id", "label", "site", "x0", "x1", "x2", "sha1"]


@pytest.mark.parametrize("name", ["label", "sha1"])
def test_names_that_ingest_uses_are_refused(run, own, name):
    table = pd.DataFrame({name: [1, 2]})
    source = own(lambda: RawData(np.zeros((2, 1)), np.array([0, 1]), ("a", "b"), table))
    with pytest.raises(ValueError, match=f"ingest.source: column '{name}' has a name that ingest itself uses"):
        run(source)


def test_the_card_is_plain_json(run):
    data, _ = run("tasks.data.sources:digits")
    card = json.loads((data.folder / "card.json").read_text())
    assert card["samples"] == 1797 and len(card["sha256"]) == 64
