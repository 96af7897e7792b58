import logging

import numpy as np
import pytest
from pydantic import TypeAdapter
from toy import blobs, save_splits

from tasks.coreset import compare as module
from tasks.coreset.compare import compare, comparison_text, named_fractions, named_methods, write_comparison
from tasks.coreset.selection import SELECTIONS
from tasks.files import Files
from tasks.params import Coreset


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr("tasks.coreset.judge.FEWEST_STEPS", 15)
    reads = save_splits(tmp_path, blobs(150))
    del reads["coreset"]

    def run(methods=("stratified", "k_center"), fractions=(0.1, 0.5), seeds=2, **recipe):
        recipe = {"method": "herding", "fraction": 0.5, "features": "raw", **recipe}
        section = TypeAdapter(Coreset).validate_python(recipe)
        return compare(section, 0, Files(reads, {}), methods=methods, fractions=fractions, seeds=seeds)

    return run


def test_every_cell_of_methods_by_fractions_is_trained_for_every_seed(run, caplog):
    with caplog.at_level(logging.INFO):
        cells = run()
    sizes = ((0.1, 9), (0.5, 45))
    expected = [(method, *size) for method in ("stratified", "k_center") for size in sizes]
    assert [(cell.method, cell.fraction, cell.samples) for cell in cells] == expected
    for cell in cells:
        assert len(cell.accuracies) == 2 and cell.mean == pytest.approx(np.mean(cell.accuracies))
        assert cell.sd == pytest.approx(np.std(cell.accuracies, ddof=1)) and cell.half_width95 >= cell.sd
    assert caplog.text.count("compare: ") == 4  # a line per cell where there is no terminal


def test_all_methods_share_one_pass_of_evidence(run, monkeypatch):
    asked = []
    collect = module.collect
    monkeypatch.setattr(module, "collect", lambda *a, **k: asked.append(k) or collect(*a, **k))
    cells = run(methods=tuple(SELECTIONS), fractions=(0.5,), seeds=1, features="proxy")
    assert asked == [{"dynamics": True, "scratch": None}] and [cell.method for cell in cells] == list(SELECTIONS)
    assert {cell.half_width95 for cell in cells} == {None}


def test_a_recipe_that_makes_samples_compares_the_selections_with_their_defaults(tmp_path, monkeypatch):
    monkeypatch.setattr("tasks.coreset.judge.FEWEST_STEPS", 15)
    reads = save_splits(tmp_path, blobs(150))
    section = TypeAdapter(Coreset).validate_python({"method": "kernel_ridge", "per_class": 2})
    found = compare(section, 0, Files(reads, {}), methods=("herding",), fractions=(0.5,), seeds=1)
    assert [(cell.method, cell.samples) for cell in found] == [("herding", 45)]


def test_the_recipe_s_knobs_hold_for_its_own_method(run, monkeypatch):
    taken = {}
    select = module.select
    monkeypatch.setattr(module, "select", lambda s, *a: taken.setdefault(s.method, s) and select(s, *a))
    run(methods=("k_center", "k_means"), fractions=(0.5,), seeds=1, method="k_center", partition=7, scope="all")
    assert taken["k_center"].partition == 7 and taken["k_means"].scope == "all"


def test_a_fraction_too_small_for_a_class_is_one_line(run):
    with pytest.raises(ValueError, match="leaves class 0 of 30 samples empty"):
        run(fractions=(0.001,))


def test_the_same_cells_give_the_same_files(run, tmp_path):
    cells = run()
    for folder in ("one", "two"):
        write_comparison(cells, tmp_path / folder)
    names = ("coreset_comparison.csv", "coreset_comparison.png")
    one, two = ([(tmp_path / folder / name).read_bytes() for name in names] for folder in ("one", "two"))
    assert one == two and one[1].startswith(b"\x89PNG")
    rows = one[0].decode().splitlines()
    assert rows[0] == "method,fraction,samples,seeds,mean,sd,half_width95" and rows[1].startswith("stratified,0.1,9,2,")
    assert len(rows) == 5


def test_one_seed_has_no_interval_and_is_drawn_all_the_same(run, tmp_path):
    write_comparison(run(seeds=1), tmp_path)
    assert (tmp_path / "coreset_comparison.csv").read_text().splitlines()[1].endswith(",0.0,")


def test_the_table_has_a_row_per_method_and_a_column_per_fraction():
    cells = [
        module.Cell(method, fraction, 9, (0.5, 0.6), mean, 0.01, 0.09)
        for method, mean in (("herding", 0.8), ("ccs", 0.815))
        for fraction in (0.01, 0.1)
    ]
    lines = comparison_text(cells).splitlines()
    assert lines[0].split() == ["method", "1", "%", "10", "%"]
    assert lines[3].split() == ["ccs", *["81.50", "+/-", "1.00"] * 2] and "2 seeds" in lines[-1]


def test_names_are_read_once_each_and_fractions_in_order():
    assert named_methods("herding, ccs,herding") == ["herding", "ccs"] and named_methods(None) == list(SELECTIONS)
    assert named_fractions("0.3,0.05, 0.3") == [0.05, 0.3]


@pytest.mark.parametrize("text", ["0.1,2", "0", "x", "", "nan", "0.1,"])
def test_a_bad_fraction_is_named(text):
    with pytest.raises(ValueError, match=r"--fractions: '.*' is not a number above 0 and at most 1, such as 0\.05"):
        named_fractions(text)


def test_a_bad_method_is_named_with_what_there_is():
    with pytest.raises(ValueError, match="--methods: 'magic' does not exist; choose of random, stratified, k_means"):
        named_methods("herding,magic")
