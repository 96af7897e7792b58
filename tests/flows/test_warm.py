"""The warm process: what it forks is as `python -m` would have it, ends as it would, and outlives nobody."""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import psutil
import pytest
from projects import ROOT, environment

from flows import warm
from flows.child import PYTHON_M, StageFailed, run_child

ASKED = """
import json, os, sys
print(json.dumps({
    "argv": sys.argv[1:], "file": __file__, "name": __name__, "folder": os.getcwd(), "first": sys.path[0],
    "group": os.getpgrp() == int(os.environ["GROUP"]), "environment": os.environ["TOLD"],
}))
print("beside", file=sys.stderr)
sys.exit(7)
"""
SLEEPS = "import os, pathlib, time; pathlib.Path('{file}').write_text(str(os.getpid())); time.sleep(600)"
SERVE = """
import sys
sys.path.insert(0, {root!r})
from flows import warm
warm.PACKAGES = ({package!r},)
warm.serve({name!r})
"""


@contextmanager
def serving(package, folder=ROOT):
    """A warm process with next to nothing imported, and the variable that leads to it."""
    name = f"downsize-test-{os.getpid()}-{time.monotonic_ns()}"
    server = subprocess.Popen(
        [sys.executable, "-c", SERVE.format(root=str(ROOT), package=package, name=name)],
        cwd=folder,
        stdout=subprocess.PIPE,
    )
    try:
        assert server.stdout.readline() == b"\n"
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(warm.ADDRESS, name)
            yield server
    finally:
        server.kill()
        server.communicate()


@pytest.fixture
def server():
    with serving("click") as process:
        yield process


def wait_for(condition, within_s=30):
    until = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def module(folder, code):
    (folder / "asked.py").write_text(code)
    return [*PYTHON_M, "asked", "one", "two"]


def said(command, folder):
    settings = {**environment(folder), "GROUP": str(os.getpgrp()), "TOLD": "yes"}
    done = subprocess.run(command, cwd=folder, env=settings, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def is_warm(code):
    """The module's code, preceded by a word of who its parent is."""
    return f"import multiprocessing; print(multiprocessing.parent_process() is not None)\n{code}"


def test_a_forked_module_is_as_python_runs_it(tmp_path, server, monkeypatch):
    command = module(tmp_path, is_warm(ASKED))
    code, out, err = said(command, tmp_path)
    monkeypatch.delenv(warm.ADDRESS)
    cold_code, cold_out, cold_err = said(command, tmp_path)
    assert (out.partition("\n")[0], cold_out.partition("\n")[0]) == ("True", "False")
    assert (code, out.partition("\n")[2], err) == (cold_code, cold_out.partition("\n")[2], cold_err)
    assert (code, err, json.loads(out.partition("\n")[2])["argv"]) == (7, "beside\n", ["one", "two"])


def test_code_that_has_changed_is_read_again(tmp_path, server):
    (tmp_path / "part.py").write_text("SAYS = 'old'")
    command = module(tmp_path, is_warm("import part; print(part.SAYS)"))
    assert said(command, tmp_path)[1] == "True\nold\n"
    (tmp_path / "part.py").write_text("SAYS = 'newer'")
    assert said(command, tmp_path)[1] == "True\nnewer\n"


@pytest.mark.parametrize("code", ["import os; os.kill(os.getpid(), 9)", "import sys; sys.exit(300)", "1 / 0", "pass"])
def test_ends_as_in_a_shell(tmp_path, server, code):
    command = module(tmp_path, code)
    shell = subprocess.run(["sh", "-c", f"{sys.executable} -m asked; echo $?"], cwd=tmp_path, capture_output=True)
    assert said(command, tmp_path)[0] == int(shell.stdout)


def test_other_settings_that_packages_read_on_import_are_not_for_it(tmp_path, server):
    command = module(tmp_path, is_warm("pass"))
    assert said(command, tmp_path)[1] == "True\n"
    assert said(["env", "MKL_NUM_THREADS=17", *command], tmp_path)[1] == "False\n"
    assert said(["env", "OMP_NUM_THREADS=many", *command], tmp_path)[1] == "False\n"


def test_another_number_of_threads_is_what_packages_use(tmp_path):
    code = """
import numpy, threadpoolctl, threading, torch
found = [*(pool["num_threads"] for pool in threadpoolctl.threadpool_info()), torch.get_num_threads()]
thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
thread.start(), thread.join()
print(set(found))
"""
    with serving("torch"):
        asked = ["env", "OMP_NUM_THREADS=3", *module(tmp_path, is_warm(code))]
        assert said(asked, tmp_path)[1] == "True\n{3}\n"


def test_another_session_is_not_for_it(tmp_path, server):
    assert said(["setsid", "-w", *module(tmp_path, is_warm("pass"))], tmp_path)[1] == "False\n"


def test_what_a_stage_starts_is_not_forked(tmp_path, server):
    (tmp_path / "inner.py").write_text(is_warm("pass"))
    inner = [*PYTHON_M, "inner"]
    code = is_warm(f"import subprocess, sys; sys.stdout.flush(); subprocess.run({inner})")
    assert said(module(tmp_path, code), tmp_path)[1] == "True\nFalse\n"


def test_a_process_with_threads_forks_nothing_and_says_so(tmp_path):
    (tmp_path / "threaded.py").write_text(
        "import threading, time; threading.Thread(target=time.sleep, args=[9]).start()"
    )
    with serving("threaded", tmp_path):
        code, out, err = said(module(tmp_path, is_warm("pass")), tmp_path)
    assert (code, out) == (0, "False\n")
    assert err == "one two: not from the warm process, so its packages are imported again\n"


@pytest.mark.parametrize("victim", ["who asked", "the stage", "the warm process"])
def test_a_kill_fails_the_stage_at_once_and_leaves_nothing(tmp_path, server, victim):
    marker = tmp_path / "pid"
    command = module(tmp_path, SLEEPS.format(file=marker))

    def kill():
        wait_for(lambda: marker.exists() and marker.read_text())
        asking = [process for process in psutil.Process().children(recursive=True) if "asked" in process.cmdline()]
        victims = {"who asked": asking[-1].pid, "the stage": int(marker.read_text()), "the warm process": server.pid}
        os.kill(victims[victim], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    start = time.monotonic()
    with pytest.raises(StageFailed, match=r"^teacher: "):
        run_child(command, "teacher", tmp_path, logging.getLogger("test"), 60)
    killer.join()
    assert time.monotonic() - start < 20
    wait_for(lambda: not alive(int(marker.read_text())))


def alive(pid):
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
