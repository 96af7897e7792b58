import json
from itertools import count

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from toy import blobs, pictures, save_splits

from tasks import checkpoint
from tasks.coreset.judge import judge_samples
from tasks.coreset.stage import coreset
from tasks.data.splits import load_splits, moments
from tasks.distill.stage import distill
from tasks.files import Files
from tasks.params import Coreset, Distill, Factory
from tasks.report.coreset import coreset_section
from tasks.training.objective import target_loss

DATA = {"image": pictures(60), "tabular": blobs()}
SMALL = {"per_class": 2, "steps": 3, "batch_size": 12, "width": 4}


@pytest.fixture(params=DATA)
def reads(request, tmp_path):
    return save_splits(tmp_path, DATA[request.param])


@pytest.fixture
def stage(reads, tmp_path):
    """Run the stage; -> its numbers and folder."""
    runs = count()

    def run(**params):
        params.setdefault("judge", None)
        out = tmp_path / f"made_{next(runs)}"
        section = TypeAdapter(Coreset).validate_python({**SMALL, **params})
        return coreset(section, 0, Files(reads, {"coreset": out})), out

    return run


@pytest.mark.parametrize("method", ["distribution_matching", "kernel_ridge"])
def test_the_stage_writes_a_data_set_that_is_read_as_the_coreset(stage, reads, method):
    numbers, folder = stage(method=method)
    assert sorted(path.name for path in folder.iterdir()) == ["card.json", "report.json", "x.npy", "y.npy"]
    found = load_splits({**reads, "coreset": folder}).coreset
    assert len(found) == 6 and found.targets(slice(None)).shape == (6, 3)
    assert numbers["samples"] == 6 and numbers["smallest_class"] == 2 and all(np.isfinite(list(numbers.values())))


def test_the_report_says_what_it_is_and_how_far_it_stands_for_all(stage):
    _, folder = stage(method="kernel_ridge")
    report = json.loads((folder / "report.json").read_text(), parse_constant=pytest.fail)
    assert report["made"] and report["labels"] == "soft" and report["per_class"] == {"a": 2, "b": 2, "c": 2}
    assert 0 < report["mmd"] < 2 and report["coverage_radius"] > 0 and "not judged" in report["note"]
    section = coreset_section(report)
    assert section["kept"].startswith("kernel_ridge made 6 samples in place of") and section["judge"] is None


def test_a_made_set_is_judged_against_random_samples_with_soft_labels(stage):
    numbers, folder = stage(method="kernel_ridge", judge={"seeds": 2}, proxy={"epochs": 2})
    report = json.loads((folder / "report.json").read_text(), parse_constant=pytest.fail)
    assert numbers["gain_over_random"] == report["judge"]["gain"] and "note" not in report
    random = report["judge"]["sets"]["random"]
    assert random["samples"] == 6 and report["judge"]["sets"]["chosen"]["samples"] == 6
    section = coreset_section(report)["judge"]
    assert [row[0] for row in section["rows"]][:3:2] == ["made", "random, soft labels"]
    assert report["verdict"] in section["verdict"].replace("±", "+/-").replace("\u2212", "-")


def test_random_samples_are_judged_with_the_proxy_s_labels(stage, monkeypatch):
    seen = []

    def record(data, chosen, drawn, *more, **knobs):
        seen.extend([chosen, *drawn])
        return judge_samples(data, chosen, drawn, *more, **knobs)

    monkeypatch.setattr("tasks.coreset.synthesis.stage.judge_samples", record)
    stage(method="kernel_ridge", judge={"seeds": 1}, proxy={"epochs": 2})
    made, random = (samples.targets(slice(None)) for samples in seen)
    assert made.shape == random.shape == (6, 3) and not torch.equal(made, random)
    torch.testing.assert_close(random.sum(1), torch.ones(6))
    assert (random.amax(1) < 1).all()


def test_the_stage_run_twice_writes_the_same_bytes(stage):
    first, second = (stage(method="kernel_ridge")[1] for _ in range(2))
    assert [(path.name, path.read_bytes()) for path in sorted(first.iterdir())] == [
        (path.name, path.read_bytes()) for path in sorted(second.iterdir())
    ]


@pytest.mark.parametrize("answers", [{"mode": "clean"}, {"mode": "views", "count": 2}])
def test_a_student_is_distilled_on_it(stage, reads, tmp_path, answers, monkeypatch):
    monkeypatch.setattr("tasks.distill.stage.export", lambda *_: None)
    _, folder = stage(method="kernel_ridge", labels="soft")
    data = load_splits({**reads, "coreset": folder})
    recipe = Factory(factory="tasks.models.mlp:MLP", args={"hidden": [8]})
    teacher = checkpoint.build(recipe, data.card, moments(data.train), 7, "teacher.model")
    checkpoint.save(teacher, data.card, tmp_path / "teacher", parent=None)
    section = Distill.model_validate(
        {"model": recipe.model_dump(), "answers": answers, "train": {"epochs": 2, "augment": {"cutout": 1}}}
    )
    writes = {name: tmp_path / name for name in ("student", "student_alone")}
    numbers = distill(section, 0, Files({**reads, "coreset": folder, "teacher": tmp_path / "teacher"}, writes))
    assert 0 <= numbers["accuracy"] <= 1 and (tmp_path / "student" / "weights.safetensors").is_file()


def test_the_loss_on_its_targets_is_that_of_all_classes(stage, reads):
    _, folder = stage(method="kernel_ridge", labels="soft")
    targets = load_splits({**reads, "coreset": folder}).coreset.targets(slice(None))
    logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    wanted = -(targets * logits.log_softmax(1)).sum(1).mean()
    assert float(target_loss(logits, targets)) == pytest.approx(float(wanted), rel=1e-5)
