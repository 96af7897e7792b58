"""A stage's process group: its lines and its failure come back, and nothing of it outlives the caller."""

import logging
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from projects import ROOT, environment

from flows.child import StageFailed, Unreachable, WorkspaceBusy, _reason, run_child

LOG = logging.getLogger("test")
FOREVER = "import time, pathlib; pathlib.Path('{file}').touch(); time.sleep(600)"


def python(code):
    return [sys.executable, "-c", code]


def alive(marker):
    """Processes, zombies aside, whose command holds the marker."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        if marker in " ".join(process.info["cmdline"] or ()) and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process.pid)
    return found


def wait_for(condition, within_s=60):
    until = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("code", "error", "says"),
    [
        ("print('downsize: teacher.lr: too high'); exit(1)", StageFailed, r"^teacher: teacher\.lr: too high$"),
        ("print('downsize: registry down'); exit(75)", Unreachable, "^teacher: registry down$"),
        ("print('x, exited with 75'); exit(255)", Unreachable, "exited with 75"),
        ("print('a is busy, it is being blocked by: (PID 41): b'); exit(255)", WorkspaceBusy, r"\(process 41\)"),
        ("import os; os.kill(os.getpid(), 9)", StageFailed, "^teacher: "),
    ],
)
def test_a_failure_says_which_stage_and_why(tmp_path, code, error, says):
    with pytest.raises(error, match=says):
        run_child(python(code), "teacher", tmp_path, LOG, 60)


def test_lines_are_passed_on_but_for_dvc_s_hints(tmp_path, caplog):
    with caplog.at_level("INFO", "test"):
        run_child(python("print('epoch 1\\n\\ngit add dvc.lock\\nepoch 2')"), "teacher", tmp_path, LOG, 60)
    assert caplog.messages == ["epoch 1", "epoch 2"]


def test_a_deadline_ends_the_stage_and_what_it_started(tmp_path):
    marker = str(tmp_path / "started")
    inner = python(FOREVER.format(file=marker))
    code = f"import subprocess, signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); subprocess.run({inner})"
    with pytest.raises(StageFailed, match=r"^teacher: did not end within 2 s and was stopped; `timeouts` sets"):
        run_child(python(code), "teacher", tmp_path, LOG, 2)
    assert (tmp_path / "started").exists()
    assert alive(marker) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_whoever_ends_the_flow_ends_the_stage_too(tmp_path, number):
    marker = str(tmp_path / "started")
    deaf = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {FOREVER.format(file=marker)}"
    inner = python(f"import subprocess; subprocess.run({python(deaf)})")
    code = (
        "import logging, pathlib; from flows.child import run_child\n"
        f"run_child({inner}, 'teacher', pathlib.Path('{tmp_path}'), logging.getLogger(), 600)"
    )
    settings = {**environment(tmp_path), "PYTHONPATH": str(ROOT)}
    flow = subprocess.Popen(python(code), env=settings, stderr=subprocess.DEVNULL)
    wait_for((tmp_path / "started").exists)
    os.kill(flow.pid, number)
    flow.wait()
    wait_for(lambda: alive(marker) == [], within_s=30)


def test_a_stage_s_own_line_is_the_reason():
    assert _reason("prune", ["x", "downsize: prune: broken", "ERROR: failed"]) == "prune: broken"
