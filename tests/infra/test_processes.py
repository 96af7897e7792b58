import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from infra import processes

ROOT = Path(__file__).parents[2]


@pytest.fixture
def server(tmp_path):
    """A server that has started a process in a session of its own, as Prefect's worker does with a flow."""
    child = tmp_path / "child"
    code = f"""
import subprocess, sys, time
started = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
open({str(child)!r}, "w").write(str(started.pid))
time.sleep(60)
"""
    command = [sys.executable, "-c", code]
    start = f"from infra.processes import *; spawn(Path({str(tmp_path)!r}), 'worker', {command!r}, {{}})"
    # which ends, as the command that starts servers does
    subprocess.run([sys.executable, "-c", start], check=True, cwd=ROOT)
    deadline = time.monotonic() + 20
    while not (child.is_file() and child.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    yield processes.running(tmp_path, "worker"), int(child.read_text())
    processes.stop(tmp_path, "worker")


def ended(process, patience_s=5):
    deadline = time.monotonic() + patience_s
    while processes.birth(process) and time.monotonic() < deadline:
        time.sleep(0.05)
    return processes.birth(process) is None


def test_what_a_killed_server_started_in_another_session_is_ended_too(server, tmp_path):
    worker, flow = server
    os.kill(worker, 9)
    assert ended(worker) and processes.birth(flow)
    processes.end_orphans(tmp_path, "worker")
    assert ended(flow)


def test_while_the_server_lives_nothing_of_it_is_an_orphan(server, tmp_path):
    processes.end_orphans(tmp_path, "worker")
    assert all(map(processes.birth, server))


def test_stopping_a_server_ends_what_it_started(server, tmp_path):
    processes.stop(tmp_path, "worker")
    assert all(map(ended, server))
