"""Bad input: one clear line on stderr, exit code 1, nothing half-written."""

import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from projects import ROOT, downsize, environment, make_project, run
from safetensors.torch import save_file

SMOKE = (ROOT / "params.smoke.yaml").read_text()
SOURCE = '{factory: "tasks.data.sources:digits", args: {}}'


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return make_project(tmp_path_factory.mktemp("cli") / "project")


def table(rows, columns="a,b,label"):
    return columns + "\n" + "\n".join(rows) + "\n"


def good_rows(count=60):
    return [f"{i * 0.5},{(i * 7) % 11},{'yes' if i % 2 else 'no'}" for i in range(count)]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("epochs: 6", "epoch: 6", "unknown key teacher.train.epoch"),
        ("epochs: 6", "epochs: six", "teacher.train.epochs is 'six'"),
        ("method: herding", "method: magic", "coreset.method is 'magic'; it must be one of"),
        ("seed: 0", "seed: -1", "seed is -1"),
        (
            "tasks.models.cnn:CNN",
            "tasks.models.cnn:CNNN",
            "teacher.model: tasks.models.cnn has no 'CNNN'; did you mean 'CNN'?",
        ),
        (
            "seeds: 1",
            "seeds: 1, student: {factory: nowhere:Net}",
            "coreset.judge.student: no module 'nowhere' here",
        ),
        (SOURCE, '{factory: "tasks.data.sources:csv", args: {path: data/none.csv, target: y}}', "data/none.csv"),
        ("budget:", "budgets:", "budgets"),
        (
            "distill:\n",
            "distill:\n  teachers: [nowhere]\n",
            "distill.teachers names 'nowhere', which has no model.json",
        ),
    ],
)
def test_wrong_params_are_one_line_before_any_work(project, old, new, says):
    (project / "params.yaml").write_text(SMOKE.replace(old, new, 1))
    for verb in ("check", "run"):
        done = downsize(project, verb, check=False)
        assert done.returncode == 1
        assert says in done.stderr
        assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith("downsize: ")
    assert not (project / "artifacts").exists()


@pytest.mark.parametrize(
    ("rows", "target", "says"),
    [
        (good_rows(), "lable", "label"),
        ([*good_rows(), ",3,yes"], "label", "a"),
        ([*good_rows(), "1.25,3,maybe"], "label", "maybe"),
    ],
    ids=["no target", "missing value", "class of one"],
)
def test_bad_tables_stop_the_run_and_leave_nothing(project, rows, target, says):
    (project / "data/own.csv").write_text(table(rows))
    source = f'{{factory: "tasks.data.sources:csv", args: {{path: data/own.csv, target: {target}}}}}'
    (project / "params.yaml").write_text(SMOKE.replace(SOURCE, source, 1))
    done = downsize(project, "stage", "ingest", check=False)
    if done.returncode == 0:
        done = downsize(project, "stage", "validate", check=False)
    assert done.returncode == 1
    assert says in done.stderr.splitlines()[-1] and done.stderr.splitlines()[-1].startswith("downsize: ")
    assert not (project / "artifacts/validation.json").exists()
    assert not any((project / "artifacts/.partial").glob("*"))


def test_a_number_in_scientific_notation_is_the_number(project):
    (project / "params.yaml").write_text(SMOKE.replace("epochs: 6,", "epochs: 6, lr: 1e-3,", 1))
    downsize(project, "check")


def test_a_limit_on_which_a_stage_depends_is_asked_for(project):
    (project / "params.yaml").write_text(SMOKE.replace("  max_class_recall_drop: 0.2\n", "", 1))
    done = downsize(project, "check", check=False)
    assert "budget.max_class_recall_drop is missing; a stage depends on it" in done.stderr


def test_a_stage_says_which_one_makes_its_input(project):
    (project / "params.yaml").write_text(SMOKE)
    done = downsize(project, "stage", "quantize", check=False)
    assert done.returncode == 1 and "`downsize stage" in done.stderr


def test_compare_says_what_is_missing_or_wrong_and_then_compares(project):
    (project / "params.yaml").write_text(SMOKE)
    shutil.rmtree(project / "artifacts", ignore_errors=True)
    for options, says in (
        ((), "compare: {root}/artifacts/data is missing; `downsize run` makes it"),
        (("--methods", "magic"), "--methods: 'magic' does not exist; choose of random, stratified"),
        (("--fractions", "0.1,1.5"), "--fractions: '1.5' is not a number above 0 and at most 1"),
    ):
        done = downsize(project, "compare", *options, check=False)
        assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
        assert says.format(root=project) in done.stderr
    for stage in ("ingest", "validate", "split"):
        downsize(project, "stage", stage)
    options = ("--methods", "herding,random", "--fractions", "0.05", "--seeds", "2")
    done = downsize(project, "compare", *options, "--json")
    cells = json.loads(done.stdout)
    assert [(cell["method"], cell["samples"], len(cell["accuracies"])) for cell in cells] == [
        ("herding", 63, 2),
        ("random", 63, 2),
    ]
    assert "compare: herding at 0.05: accuracy" in done.stderr
    assert (project / "reports/coreset_comparison.png").is_file()
    assert (project / "reports/coreset_comparison.csv").read_text().splitlines()[1].startswith("herding,0.05,63,2,")


def test_usage_errors_exit_with_2(project):
    assert downsize(project, "runn", check=False).returncode == 2


def test_outside_a_project_it_says_so(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", "run"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1 and "no dvc.yaml" in done.stderr


def test_help_imports_nothing_heavy():
    heavy = ("torch", "mlflow", "great_expectations", "prefect", "dvc")
    code = f"import sys, flows.cli; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_occupied_workspace_names_the_holder(project):
    from flows.runtime import WorkspaceBusy, is_fresh

    (project / "slow_source.py").write_text(
        "import pathlib, time\ndef read():\n    pathlib.Path('reading').touch()\n    time.sleep(60)\n"
    )
    (project / "params.yaml").write_text(SMOKE.replace(SOURCE, '{factory: "slow_source:read"}', 1))
    holder = subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro", "--single-item", "ingest"],
        cwd=project,
        env=environment(project),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        while not (project / "reading").exists():
            assert holder.poll() is None
            time.sleep(0.1)
        with pytest.raises(WorkspaceBusy, match=rf"ingest: another run .* \(process {holder.pid}\); wait for it"):
            is_fresh("ingest", project)
    finally:
        os.killpg(holder.pid, signal.SIGKILL)
        holder.wait()


MOUNT = ["unshare", "--map-root-user", "--mount"]


@pytest.mark.skipif(
    subprocess.run([*MOUNT, "true"], capture_output=True, check=False).returncode != 0, reason="may not mount"
)
@pytest.mark.parametrize(("stage", "size"), [("ingest", "40k"), ("teacher", "500k")])
def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(project, tmp_path, stage, size):
    (project / "params.yaml").write_text(SMOKE)
    for earlier in ("ingest", "validate", "split") if stage == "teacher" else ():
        downsize(project, "stage", earlier)
    (project / "artifacts").mkdir(exist_ok=True)
    small = tmp_path / "small.sh"
    small.write_text(
        f"cp -r artifacts {tmp_path}/kept\nmount -t tmpfs -o size={size} tmpfs artifacts\n"
        + (f"cp -r {tmp_path}/kept/* artifacts\n" if stage == "teacher" else "")
        + f"{sys.executable} -m flows.cli stage {stage}\ncode=$?\nfind artifacts\nexit $code\n"
    )
    done = run(project, *MOUNT, "sh", str(small), check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("downsize: no space left on the disk of ")
    assert f"artifacts/{'data' if stage == 'ingest' else stage}" not in done.stdout
    assert "partial/" not in done.stdout


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (
            'distill:\n  model: {factory: "tasks.models.cnn:CNN", args: {channels: [24, 48], strides: [1, 2]}}',
            'distill:\n  model: {factory: "own_nets:Wide"}',
            "distill.model: gives 11 outputs, the data has 10 classes; it must give one logit each",
        ),
        (
            "train: {epochs: 6,",
            "checkpoint: own.safetensors\n  train: {epochs: 6,",
            "the checkpoint does not fit: lacks",
        ),
    ],
    ids=["output width", "checkpoint"],
)
def test_a_model_that_does_not_suit_the_data_stops_the_run_before_any_training(project, old, new, says):
    (project / "own_nets.py").write_text(
        "from torch import nn\ndef Wide():\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 11))\n"
    )
    save_file({"other": torch.zeros(3)}, project / "own.safetensors")
    assert old in SMOKE
    (project / "params.yaml").write_text(SMOKE.replace(old, new, 1))
    for command in (["run"], ["check"]):
        done = downsize(project, *command, check=False)
        assert done.returncode == 1
        assert says in done.stderr.splitlines()[-1] and done.stderr.splitlines()[-1].startswith("downsize: ")
        assert "Traceback" not in done.stderr
    assert not (project / "artifacts/teacher").exists()


def test_a_truncated_idx_file_names_the_file(project):
    folder = project / "data/idx"
    folder.mkdir(parents=True, exist_ok=True)
    for part in ("train", "t10k"):
        images = np.arange(30 * 16, dtype=np.uint8).tobytes()[: -1 if part == "t10k" else None]
        (folder / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">4B3I", 0, 0, 8, 3, 30, 4, 4) + images)
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">4BI", 0, 0, 8, 1, 30) + bytes(range(3)) * 10)
    source = '{factory: "tasks.data.sources:idx", args: {folder: data/idx}}'
    (project / "params.yaml").write_text(SMOKE.replace(SOURCE, source, 1))
    done = downsize(project, "stage", "ingest", check=False)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("downsize: ") and "t10k-images-idx3-ubyte" in last


def test_failed_expectations_end_the_run_with_code_1_and_keep_the_data_docs(project):
    (project / "params.yaml").write_text(SMOKE.replace("min_per_class: 20", "min_per_class: 180", 1))
    (project / "artifacts/split.npz").unlink(missing_ok=True)
    done = downsize(project, "run", check=False)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("downsize: ") and "ExpectColumnValuesToBeBetween" in last and "samples" in last
    assert (project / "reports/data_docs/index.html").is_file()
    assert not (project / "artifacts/split.npz").exists()


def test_the_wheel_holds_both_packages_and_the_report_s_page(tmp_path):
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    (wheel,) = Path(tmp_path).glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {"flows/cli.py", "tasks/stages.py", "tasks/report/page.html", "tasks/report/page.css"} <= set(names)
    assert not any(name.startswith("tests") for name in names)


def test_other_params_run_in_a_workspace_of_their_own(project):
    from flows.workspace import workspace

    (project / "params.yaml").write_text(SMOKE)
    other = project / "params.other.yaml"
    other.write_text(SMOKE.replace("seed: 0", "seed: 7"))
    (project / "notes.txt").write_text("new, not committed")
    with workspace(project, other) as folder:
        assert folder == project / ".downsize/other"
        assert "seed: 7" in (folder / "params.yaml").read_text()
        assert (folder / "notes.txt").exists() and (folder / "tasks/stages.py").exists()
    assert "seed: 0" in (project / "params.yaml").read_text()
    (project / "notes.txt").unlink()
    with workspace(project, other) as folder:
        assert not (folder / "notes.txt").exists()
    run(folder, sys.executable, "-m", "dvc", "status", "-q", check=False)
