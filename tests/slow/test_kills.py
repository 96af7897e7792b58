"""kill -9 of the flow, of the stage's process, or of its Prefect server, in the middle of each stage in turn."""

import json
import time

import mlflow
import pytest
from flow_runs import FlowRun, figures, left_over, small_project, up_to_date, wait_until

from tasks.stages import STAGES

VICTIMS = ("flow", "stage", "server")
HANGING = """
import os
import time
from pathlib import Path
from tasks.models.cnn import CNN

class Hanging(CNN):
    batches = 0

    def forward(self, x):
        if self.training:
            Hanging.batches += 1
            if Hanging.batches == int(os.environ.get("HANG_AT", "-1")):
                Path("hangs").touch()
                time.sleep(600)
        return super().forward(x)
"""


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("first", range(len(VICTIMS)), ids=VICTIMS)
def test_a_kill_at_any_stage_costs_no_finished_one(undisturbed, tmp_path, first):
    project = small_project(tmp_path / "project")
    names = list(STAGES)
    finished = set()
    for number, name in enumerate(names):
        victim = VICTIMS[(number + first) % len(VICTIMS)]
        run = FlowRun(project)
        if victim != "stage":
            run.wait_for(f"{name}: started")
        kill(run, victim, name, names[number + 1 : number + 2])
        wait_until(lambda: not left_over(project), within_s=30)
        assert started(run).isdisjoint(finished), f"{victim} at {name}: {run.said()[-2000:]}"
        finished = set(names[: number + (victim == "server")])
    last = FlowRun(project)
    assert last.wait() == 0, last.said()[-3000:]
    assert up_to_date(last.said()) == [name for name in STAGES if name != "register"]
    assert figures(project) == undisturbed
    assert not any((project / "artifacts/.partial").glob("*"))
    assert not [path for path in project.rglob("*.partial") if path.is_file()]  # that folder itself stays
    client = mlflow.MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    versions = client.search_model_versions("name = 'downsize-smoke'")
    assert len(versions) == 5 == len({version.tags["variant"] for version in versions})
    assert json.loads((project / "reports/summary.json").read_text())["final"] == "quantized"


@pytest.mark.timeout(3600)
def test_a_training_that_was_killed_in_mid_epoch_is_taken_up_and_ends_with_the_same_figures(undisturbed, tmp_path):
    """Of 1,258 samples and of 629, in batches of 64: 19 batches an epoch in teacher, 9 in distill, two epochs each."""
    project = small_project(tmp_path / "project")
    params = project / "params.yaml"
    params.write_text(params.read_text().replace("tasks.models.cnn:CNN", "hanging:Hanging"))
    (project / "hanging.py").write_text(HANGING)
    teacher = hung_at(project, 19 + 5)  # in its second epoch
    teacher.process.kill()
    teacher.wait()
    wait_until(lambda: not left_over(project), within_s=30)
    student = hung_at(project, 9 + 9 + 9 + 5)  # in the second epoch of the second training
    assert "teacher: epoch 1/2" not in student.said() and "teacher: epoch 2/2" in student.said()
    student.stage("distill").kill()
    assert student.wait() == 1
    last = FlowRun(project)
    assert last.wait() == 0, last.said()[-3000:]
    assert up_to_date(last.said())[-1] == "teacher" and "student_alone: epoch" not in last.said()
    assert "student: epoch 1/2" not in last.said() and "student: epoch 2/2" in last.said()
    assert figures(project) == undisturbed
    assert not list((project / "artifacts/.scratch/trainings").glob("*/*"))


def hung_at(project, batch):
    """A run that stands still in this batch of a stage's trainings."""
    (project / "hangs").unlink(missing_ok=True)
    run = FlowRun(project, HANG_AT=str(batch))
    wait_until(lambda: (project / "hangs").exists() or run.process.poll() is not None, within_s=900)
    assert (project / "hangs").exists(), run.said()[-3000:]
    return run


def kill(run, victim, name, following):
    """Kill and see the flow end; one that has lost its server goes on, and is killed in the next stage."""
    if victim == "stage":
        process = run.stage(name)
        time.sleep(0.3)  # the quickest have ended half a second after the fork
        process.kill()
        assert run.wait() == 1, run.said()[-2000:]
        assert f"downsize: {name}: " in run.said() and "`downsize run` goes on from there" in run.said()
        return
    if victim == "server":
        run.descendant("uvicorn").kill()
        for later in following:
            run.wait_for(f"{later}: started")
    if victim == "flow" or following:
        run.process.kill()
    run.wait()


def started(run):
    return {name for name in STAGES if f"{name}: started" in run.said()}
