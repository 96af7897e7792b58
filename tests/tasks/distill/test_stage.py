"""distill on a toy project's files."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from toy import save_splits

from tasks import checkpoint
from tasks.data.batches import Samples
from tasks.data.splits import load_splits, moments
from tasks.distill import stage
from tasks.distill.probe import CANDIDATES
from tasks.distill.stage import distill
from tasks.distill.students import build_student, same_shape_fresh
from tasks.files import Files
from tasks.measure.accuracy import accuracy
from tasks.params import Distill, Factory, PrunedTeacher, Train
from tasks.training.curves import read_curves
from tasks.training.loop import fit_

MLP = "tasks.models.mlp:MLP"
TRAIN = {"epochs": 3, "batch_size": 16}


def overlapping(count=300):
    """Clusters that no network tells apart for sure."""
    rng = np.random.default_rng(0)
    y = np.arange(count) % 3
    x = 0.9 * rng.standard_normal((count, 4)) + np.eye(3, 4)[y]
    return Samples(x.astype(np.float32), y.astype(np.int64), np.arange(count))


@pytest.fixture(scope="module")
def reads(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    found = save_splits(folder, overlapping())
    data = load_splits(found)
    for name, seed in (("teacher", 7), ("second", 8)):
        model = checkpoint.build(
            Factory(factory=MLP, args={"hidden": [32, 32]}), data.card, moments(data.train), seed, "teacher.model"
        )
        fit_(model, data.train, data.validation, Train(epochs=8, batch_size=32), seed=seed, series=name)
        checkpoint.save(model, data.card, folder / name, parent=None)
    return {**found, "teacher": folder / "teacher"}


@pytest.fixture
def started(monkeypatch):
    """The trainings: series, initial weights and whether towards a teacher; files are not exported."""
    seen, real = [], stage.fit_

    def record(model, samples, validation, train, *, series, lesson, **more):
        state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        seen.append(
            SimpleNamespace(model=model, series=series, state=state, lesson=lesson, train=train, samples=samples)
        )
        return real(model, samples, validation, train, series=series, lesson=lesson, **more)

    monkeypatch.setattr(stage, "fit_", record)
    monkeypatch.setattr(stage, "export", lambda *_: None)
    return seen


def params(**changes):
    given = {"model": {"factory": MLP, "args": {"hidden": [8]}}, "train": TRAIN, **changes}
    return Distill.model_validate({**given, "losses": given.get("losses", [{"method": "kd"}])})


def distilled(folder, reads, seed=0, scratch=None, **changes):
    writes = {name: folder / name for name in ("student", "student_alone")}
    metrics = distill(params(**changes), seed, Files(reads, writes, scratch))
    return metrics, json.loads((folder / "student/comparison.json").read_text())


def same(first, second):
    return all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def test_both_start_from_the_same_weights_and_only_one_has_a_teacher(tmp_path, reads, started):
    metrics, _ = distilled(tmp_path, reads)
    alone, student = started
    assert (alone.series, student.series) == ("student_alone", "student")
    assert same(alone.state, student.state) and alone.lesson is None and student.lesson is not None
    assert np.array_equal(alone.samples.indices, load_splits(reads).coreset.indices)
    data = load_splits(reads)
    models = {name: checkpoint.load(tmp_path / name, data.card) for name in ("student", "student_alone")}
    assert not same(models["student"].state_dict(), models["student_alone"].state_dict())
    assert metrics["accuracy"] == pytest.approx(accuracy(models["student"], data.validation))
    assert metrics["accuracy_alone"] == pytest.approx(accuracy(models["student_alone"], data.validation))
    assert metrics["gain"] == pytest.approx(metrics["accuracy"] - metrics["accuracy_alone"])
    assert metrics["parameters"] == 4 * 8 + 2 * 8 + 8 * 3 + 3 and metrics["macs"] == 4 * 8 + 8 * 3
    parents = {name: json.loads((tmp_path / name / "model.json").read_text())["parent"] for name in models}
    assert parents == {"student": "teacher", "student_alone": None}
    assert len(read_curves(tmp_path / "student/training.csv")) == 3


def test_comparison_json_has_the_figures_of_the_metrics_and_what_was_learned_from(tmp_path, reads, started):
    metrics, found = distilled(tmp_path, reads, target_weight=0.3)
    shared = ("accuracy_teacher", "accuracy_alone", "gain", "agreement", "helped")
    assert {key: found[key] for key in shared} == {key: metrics[key] for key in shared}
    assert found["accuracy_student"] == metrics["accuracy"] and found["gap_closed"] == metrics.get("gap_closed")
    assert found["chosen"] == {
        "name": "params",
        "losses": [{"method": "kd", "temperature": 4.0, "weight": 0.9}],
        "target_weight": 0.3,
    }
    assert found["probe"] == [] and found["seeds"] == 1 and found["gain_low"] is None
    assert [change["name"] for change in found["classes"]] == ["a", "b", "c"]
    assert f"{100 * metrics['accuracy']:.2f} %" in found["sentence"]


def test_twice_the_same_bytes_with_scratch_and_without(tmp_path, reads):
    """With the ONNX files."""
    for name, scratch in (("first", None), ("again", tmp_path / "scratch")):
        distilled(tmp_path / name, reads, scratch=scratch)
    files = sorted(path.relative_to(tmp_path / "first") for path in (tmp_path / "first").rglob("*") if path.is_file())
    assert {"model.onnx", "weights.safetensors", "comparison.json"} <= {path.name for path in files}
    for path in files:
        assert (tmp_path / "first" / path).read_bytes() == (tmp_path / "again" / path).read_bytes()
    assert len(list((tmp_path / "scratch/answers").iterdir())) == 1


def test_another_seed_is_another_student(tmp_path, reads, started):
    distilled(tmp_path / "a", reads)
    distilled(tmp_path / "b", reads, seed=1)
    assert not same(started[1].state, started[3].state)


ASSISTANT = {"model": {"factory": MLP, "args": {"hidden": [16]}}, "train": {"epochs": 2, "batch_size": 16}}
PRUNED = {"method": "pruned_teacher", "target": {"macs": 0.5}}


def test_a_pruned_teacher_inherits_and_the_one_alone_starts_fresh(tmp_path, reads, started):
    distilled(tmp_path, reads, seed=3, model=PRUNED)
    alone, student = started
    shapes = [{name: tensor.shape for name, tensor in run.state.items()} for run in started]
    assert shapes[0] == shapes[1] and shapes[0]["model.body.1.weight"][0] < 32
    teacher = checkpoint.load(reads["teacher"], load_splits(reads).card)
    rows = teacher.model.body[1].weight.tolist()
    assert all(row in rows for row in student.state["model.body.1.weight"].tolist())
    assert not any(row in rows for row in alone.state["model.body.1.weight"].tolist())
    model = checkpoint.load(tmp_path / "student", load_splits(reads).card)
    assert same(alone.state, same_shape_fresh(model, 3).state_dict())


def test_several_seeds_are_several_pairs_of_which_the_first_is_passed_on(tmp_path, reads, started):
    metrics, found = distilled(tmp_path / "two", reads, seeds=2)
    assert [run.series for run in started] == ["student_alone", "student", "student_alone_seed_1", "student_seed_1"]
    assert same(started[2].state, started[3].state) and not same(started[0].state, started[2].state)
    assert found["seeds"] == 2 and found["gain_low"] <= found["gain"] <= found["gain_high"]
    one, _ = distilled(tmp_path / "one", reads)
    next_one, _ = distilled(tmp_path / "next", reads, seed=1)
    assert metrics["accuracy"] == one["accuracy"] and metrics["gain"] == pytest.approx(
        (one["gain"] + next_one["gain"]) / 2
    )
    for name in ("student", "student_alone"):
        weights = [(tmp_path / folder / name / "weights.safetensors").read_bytes() for folder in ("one", "two")]
        assert weights[0] == weights[1]


def test_auto_learns_from_what_the_probe_finds(tmp_path, reads, started, monkeypatch):
    _, found = distilled(
        tmp_path, reads, losses="auto", train={**TRAIN, "epochs": 4, "patience": 1}, probe={"share": 0.5}
    )
    probes, student = started[:17], started[18]
    assert [run.train.epochs for run in probes] == [1] * 15 + [2] * 2
    assert all(run.train.patience is None and same(run.state, student.state) for run in probes)
    assert [trial["candidate"] for trial in found["probe"][:10]] == [candidate.name for candidate in CANDIDATES]
    last = {trial["candidate"]: trial["validation_accuracy"] for trial in found["probe"][-2:]}
    chosen = next(candidate for candidate in CANDIDATES if candidate.name == found["chosen"]["name"])
    assert last[chosen.name] == max(last.values())
    assert found["chosen"]["losses"] == [loss.model_dump() for loss in chosen.losses]
    assert (student.lesson.objective.losses if student.lesson else ()) == chosen.losses


def test_where_nothing_beats_the_student_alone_it_is_passed_on_as_it_is(tmp_path, reads, started, monkeypatch):
    monkeypatch.setattr(stage, "choose", lambda epochs, score: (CANDIDATES[0], []))
    metrics, found = distilled(tmp_path, reads, losses="auto")
    assert metrics["gain"] == 0 and not found["helped"] and not found["taught"] and found["p"] == 1
    weights = [(tmp_path / name / "weights.safetensors").read_bytes() for name in ("student", "student_alone")]
    assert weights[0] == weights[1]


def test_weights_that_were_inherited_but_not_taught_are_no_help_of_a_teacher_s_answers(
    tmp_path, reads, started, monkeypatch
):
    monkeypatch.setattr(stage, "choose", lambda epochs, score: (CANDIDATES[0], []))
    metrics, found = distilled(tmp_path, reads, losses="auto", model=PRUNED, seeds=3)
    assert [run.lesson for run in started] == [None] * 6 and metrics["gain"] != 0
    assert (found["taught"], found["inherited"], found["helped"], metrics["helped"]) == (False, True, False, 0)
    assert found["sentence"].startswith("distillation did not help here: the probe chose the student alone, with the")


def fitnet(student="body", teacher="body"):
    return {"losses": [{"method": "fitnet", "student": student, "teacher": teacher}], "answers": {"mode": "live"}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (fitnet(student="bodi"), "the student has no module 'bodi'; did you mean 'body'"),
        (fitnet(teacher="bodi"), "the teacher has no module 'bodi'; did you mean 'body'"),
        (  # the student, which has one layer less, is the next one's teacher
            {**fitnet(teacher="body.6"), "generations": 2},
            "the student, which teaches the next generation, has no module 'body.6'; did you mean 'body.3'",
        ),
        ({**fitnet(teacher="body.6"), "assistant": ASSISTANT}, "the assistant, which teaches, has no module 'body.6'"),
        (
            {**fitnet(student="body.4"), "assistant": ASSISTANT},
            "the assistant has no module 'body.4'; did you mean 'body.3'",
        ),
    ],
)
def test_a_module_that_is_not_there_is_named_before_any_training(tmp_path, reads, started, changes, message):
    with pytest.raises(ValueError, match=f"^distill.losses: {message}"):
        distilled(tmp_path, reads, **changes)
    assert started == []


def test_features_that_cannot_be_compared_are_named_before_any_training(tmp_path, reads, started):
    at = {"method": "at", "student": "body", "teacher": "body"}
    with pytest.raises(ValueError, match=r"^at: the student's feature has shape \(2, 8\), the teacher's \(2, 32\)"):
        distilled(tmp_path, reads, losses=[at], answers={"mode": "live"})
    assert started == []


def test_a_rehearsal_leaves_the_trainings_as_they_were(tmp_path, reads, monkeypatch):
    monkeypatch.setattr(stage, "export", lambda *_: None)
    distilled(tmp_path / "first", reads, **fitnet(teacher="body.3"), assistant=ASSISTANT, generations=2)
    monkeypatch.setattr(stage, "rehearse", lambda *_: None)
    distilled(tmp_path / "again", reads, **fitnet(teacher="body.3"), assistant=ASSISTANT, generations=2)
    weights = [(tmp_path / name / "student/weights.safetensors").read_bytes() for name in ("first", "again")]
    assert weights[0] == weights[1]


def test_the_log_has_a_table_before_the_trainings_and_the_answer_after_them(tmp_path, reads, started, caplog):
    caplog.set_level("INFO", "tasks")
    _, found = distilled(tmp_path, reads)
    said = [record.getMessage() for record in caplog.records]
    header, _, teacher, student = said[0].splitlines()
    assert header.split("  ")[0] == "model" and "parameters" in header and "MACs" in header and "bytes int8" in header
    assert teacher.split()[:2] == ["teacher", "1,379"] and student.split() == ["student", "75", "56", "300", "75"]
    assert said[1].startswith("student_alone: epoch 1/3") and said[-1] == f"distill: {found['sentence']}"


def test_further_teachers_answers_are_averaged_in(tmp_path, reads, started):
    distilled(tmp_path / "one", reads)
    distilled(tmp_path / "two", reads, teachers=[str(reads["teacher"].parent / "second")])
    single, double = (run.lesson.teacher for run in started[1::2])
    card = load_splits(reads).card
    inputs = started[1].samples.inputs(slice(None))
    models = [checkpoint.load(reads["teacher"].parent / name, card) for name in ("teacher", "second")]
    with torch.no_grad():
        logits = [model(inputs) for model in models]
    everything = np.arange(len(inputs))
    torch.testing.assert_close(single(everything, inputs).logits, logits[0], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(double(everything, inputs).logits, sum(logits) / 2, rtol=1e-3, atol=1e-3)


def test_an_assistant_learns_first_and_then_teaches(tmp_path, reads, started):
    metrics, _ = distilled(tmp_path, reads, assistant=ASSISTANT, answers={"mode": "live"})
    assert [run.series for run in started] == ["assistant", "student_alone", "student"]
    assistant, _, student = (run.lesson and run.lesson.teacher.teachers for run in started)
    assert [str(net.factory.args["hidden"]) for net in (*assistant, *student)] == ["[32, 32]", "[16]"]
    teacher = checkpoint.load(reads["teacher"], load_splits(reads).card)
    assert metrics["accuracy_teacher"] == pytest.approx(accuracy(teacher, load_splits(reads).validation))


def test_beside_an_assistant_every_seed_s_student_is_still_cut_from_the_teacher(tmp_path, reads, started):
    distilled(tmp_path, reads, model=PRUNED, assistant=ASSISTANT, seeds=2)
    assert same(started[2].state, started[4].state)


def test_a_student_is_cut_from_the_assistant_that_has_learned_and_the_teacher_teaches_both(tmp_path, reads, started):
    pruned, assistant = {**PRUNED, "origin": "assistant"}, {**ASSISTANT, "teaches": False}
    distilled(tmp_path, reads, model=pruned, assistant=assistant, answers={"mode": "live"}, seeds=2)
    assert [run.series for run in started[:3]] == ["assistant", "student_alone", "student"]
    learned, alone, student = started[:3]
    teacher = checkpoint.load(reads["teacher"], load_splits(reads).card)
    for run in (learned, student):
        assert same(run.lesson.teacher.teachers[0].state_dict(), teacher.state_dict())
    kept = checkpoint.load(tmp_path / "student", load_splits(reads).card)
    assert kept.factory.args["hidden"] == ASSISTANT["model"]["args"]["hidden"]
    assert same(student.state, started[4].state) and not same(alone.state, student.state)
    again = _cut(learned.model, reads, pruned)
    assert same(student.state, again.state_dict())


def _cut(assistant, reads, model):
    """From the assistant as its training left it."""
    data, student = load_splits(reads), PrunedTeacher.model_validate(model)
    return build_student(student, assistant, data.card, moments(data.train), data.validation, 0)


def test_where_the_probe_finds_that_no_teacher_helps_the_assistant_still_learns_before_it_is_cut(
    tmp_path, reads, started, monkeypatch
):
    monkeypatch.setattr(stage, "choose", lambda *_: (stage.ALONE, []))
    pruned, assistant = {**PRUNED, "origin": "assistant"}, {**ASSISTANT, "teaches": False}
    distilled(tmp_path, reads, model=pruned, assistant=assistant, losses="auto")
    assert [(run.series, run.lesson) for run in started] == [
        ("assistant", None),
        ("student_alone", None),
        ("student", None),
    ]


def test_a_student_cut_from_the_assistant_can_be_taught_by_it_too(tmp_path, reads, started):
    pruned = {**PRUNED, "origin": "assistant"}
    distilled(tmp_path, reads, model=pruned, assistant=ASSISTANT, answers={"mode": "live"})
    (guide,) = started[2].lesson.teacher.teachers
    assert guide.factory.args["hidden"] == ASSISTANT["model"]["args"]["hidden"]


def test_in_each_generation_the_student_before_teaches_a_fresh_one(tmp_path, reads, started):
    distilled(tmp_path, reads, generations=3, answers={"mode": "live"})
    assert [run.series for run in started] == ["student_alone", "student", "student_2", "student_3"]
    assert same(started[1].state, started[2].state) and same(started[1].state, started[3].state)
    teachers = [run.lesson.teacher.teachers[0].factory.args["hidden"] for run in started[1:]]
    assert teachers == [[32, 32], [8], [8]]
    series = {row["series"] for row in read_curves(tmp_path / "student/training.csv")}
    assert series == {"student", "student_2", "student_3"}


def test_a_peer_of_the_same_shape_learns_along_from_weights_of_its_own(tmp_path, reads, started):
    distilled(tmp_path / "first", reads, losses=[{"method": "mutual"}], target_weight=1.0)
    alone, student = started
    peer = student.lesson.teacher.network
    fresh = checkpoint.load(tmp_path / "first/student", load_splits(reads).card)
    assert str(peer) == str(fresh.train()) and same(alone.state, student.state)
    assert not same(peer.state_dict(), same_shape_fresh(fresh, 1).state_dict())  # it has learned
    distilled(tmp_path / "again", reads, losses=[{"method": "mutual"}], target_weight=1.0)
    weights = [(tmp_path / name / "student/weights.safetensors").read_bytes() for name in ("first", "again")]
    assert weights[0] == weights[1]


def test_a_measured_student_is_refused_where_each_process_would_measure(tmp_path, reads, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=r"^distill.model.target.latency is measured by each process anew; give macs"):
        distilled(tmp_path, reads, model={"method": "pruned_teacher", "target": {"latency": 0.5}})
