from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tasks.data.dataset import Card, save_dataset
from tasks.evaluate.challenge import Challenge, challenge
from tasks.params import Params, load_params
from tests.mlflow_project import PARAMS, make_variant

SAMPLES = 600
# each class has a feature of its own; the fourth marks a third of class b
RIGHT = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]]
FORGETS_MARKED_B = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 2]]
SURER = [[9, 0, 0], [0, 9, 0], [0, 0, 9], [0, 0, 0]]
BUDGET = (
    "budget: {max_accuracy_drop: 0.15, max_class_recall_drop: 0.05, max_ece_increase: null, max_negative_flips: null}"
)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    y = np.arange(SAMPLES) % 3
    x = np.zeros((SAMPLES, 1, 2, 2), np.uint8)
    x.reshape(SAMPLES, 4)[np.arange(SAMPLES), y] = 1
    marked = (y == 1) & (np.arange(SAMPLES) % 9 == 1)
    x.reshape(SAMPLES, 4)[marked, 3] = 1
    card = Card(name="toy", kind="image", samples=0, input_shape=(1,), classes=("a", "b", "c"), slices=("marked",))
    table = pd.DataFrame({"id": range(SAMPLES), "label": np.array(list("abc"))[y], "marked": marked.astype(str)})
    save_dataset(tmp_path / "data", x, y, table, card)
    everything = np.arange(SAMPLES)
    np.savez(tmp_path / "split.npz", train=everything[:0], validation=everything[:0], test=everything)
    make_variant(tmp_path / "champion", 4.0, RIGHT)
    return tmp_path


def params_of(folder: Path, budget: str = BUDGET) -> Params:
    (folder / "params.yaml").write_text(f"{PARAMS}{budget}\n")
    return load_params(folder / "params.yaml")


def against(workspace: Path, matrix: object, budget: str = BUDGET) -> Challenge:
    make_variant(workspace / "candidate", 4.0, matrix)
    reads = {"data": workspace / "data", "split": workspace / "split.npz"}
    return challenge(workspace / "candidate", workspace / "champion", "champion", params_of(workspace, budget), reads)


def test_one_that_answers_alike_passes(workspace: Path) -> None:
    found = against(workspace, RIGHT)
    assert (found.verdict, found.accuracy, found.reference_accuracy, found.samples) == ("pass", 1.0, 1.0, SAMPLES)
    assert "agreement" not in {check.name for check in found.checks}  # a better one must differ from the champion


def test_one_that_lost_a_class_and_a_slice_fails_and_names_them(workspace: Path) -> None:
    found = against(workspace, FORGETS_MARKED_B)
    lost = 67 / SAMPLES
    assert (found.verdict, found.accuracy) == ("fail", pytest.approx(1 - lost))
    failed = {check.name: check.note for check in found.checks if check.verdict == "fail"}
    assert set(failed) == {"class_recall_drop", "class_mcnemar_p", "slice_mcnemar_p", "slice_drop"}
    assert failed["class_recall_drop"] == "class b, 200 samples"
    assert "slice marked=True lost 100.00 pp of 67 samples" in failed["slice_mcnemar_p"]
    assert "class b, 200 samples" in found.reasons()


def test_more_confidence_where_it_is_right_costs_nothing(workspace: Path) -> None:
    found = against(workspace, SURER, "budget: {max_accuracy_drop: 0.15}")
    assert found.verdict == "pass"


def test_too_few_samples_are_inconclusive(workspace: Path) -> None:
    found = against(workspace, RIGHT, "budget: {max_accuracy_drop: 0.001}")
    assert found.verdict == "inconclusive"
    assert found.reasons().startswith("accuracy_drop_upper95: drop 0.00 pp, at most 0.50 pp")


def test_other_classes_or_inputs_are_refused(workspace: Path) -> None:
    path = workspace / "champion/deploy.json"
    deploy = json.loads(path.read_text())
    path.write_text(json.dumps({**deploy, "classes": ["a", "b"]}))
    says = (
        r"^champion knows 2 classes \(a, b\), the data of this workspace has 3 \(a, b, c\): nothing compares the two; "
    )
    with pytest.raises(ValueError, match=says):
        against(workspace, RIGHT)
    path.write_text(json.dumps({**deploy, "inputs": [{"shape": ["batch", 3, 2, 2]}]}))
    with pytest.raises(ValueError, match=r"^champion takes inputs of \[3, 2, 2\], the data of this workspace are"):
        make_variant(workspace / "candidate2", 4.0, RIGHT)
        reads = {"data": workspace / "data", "split": workspace / "split.npz"}
        challenge(workspace / "candidate2", workspace / "champion", "champion", params_of(workspace), reads)
