"""Server processes that outlive the command that starts them, known again by a file each, and private files."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

HOST: Final = "127.0.0.1"
PATIENCE_S: Final = 120
GRACE_S: Final = 15
SERVER: Final = "DOWNSIZE_SERVER"  # the variable by which what a server has started is known in any session


def spawn(home: Path, name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Start a server in a process group of its own, unless it runs; its output goes to NAME.log."""
    if running(home, name):
        return
    with (home / f"{name}.log").open("a", encoding="utf-8") as log:
        marked = {**environment, SERVER: str(home / name)}
        process = subprocess.Popen(command, env=marked, stdout=log, stderr=log, start_new_session=True)
    (home / f"{name}.pid").write_text(f"{process.pid} {birth(process.pid)}", encoding="utf-8")


def stop(home: Path, name: str) -> None:
    """End a server and what it has started."""
    for sent in (signal.SIGTERM, signal.SIGKILL):
        if (process := running(home, name)) is None:
            break
        os.killpg(process, sent)
        deadline = time.monotonic() + GRACE_S
        while running(home, name) and time.monotonic() < deadline:
            time.sleep(0.1)
    end_orphans(home, name)
    (home / f"{name}.pid").unlink(missing_ok=True)


def end_orphans(home: Path, name: str) -> None:
    """End what a server had started, where it has itself been killed: it would keep the port, or a flow would go on."""
    try:
        group = int((home / f"{name}.pid").read_text(encoding="utf-8").split()[0])
    except (OSError, ValueError, IndexError):
        return
    if birth(group) is None:  # no new process gets this number while the group still has members
        with suppress(ProcessLookupError):
            for _ in range(100 * GRACE_S):  # until none is left to kill
                os.killpg(group, signal.SIGKILL)
                time.sleep(0.01)
        for process in _started_by(home / name):  # Prefect's worker gives each flow a session of its own
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)


def _started_by(server: Path) -> list[int]:
    """Processes that inherited the server's mark."""
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):  # it has ended, or is another user's
            if f"{SERVER}={server}".encode() in environment.read_bytes().split(b"\0"):
                found.append(int(environment.parent.name))
    return found


def running(home: Path, name: str) -> int | None:
    """The process that was started under this name, if it lives; another that has its number by now is not it."""
    try:
        process, born = (home / f"{name}.pid").read_text(encoding="utf-8").split()
    except (OSError, ValueError):
        return None
    return int(process) if birth(int(process)) == born else None


def birth(process: int) -> str | None:
    """When the process was started, in clock ticks since the machine was; None where it has ended."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


def await_answer(url: str, home: Path, name: str) -> None:
    """Until the server answers, if only to refuse.

    Raises:
        RuntimeError: it ended, or said nothing for PATIENCE_S.
    """
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and running(home, name):
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except urllib.error.HTTPError as refusal:
            if refusal.code < 500:
                return
        except OSError:
            pass
        time.sleep(0.3)
    raise RuntimeError(f"{name} did not come up; see {home / f'{name}.log'}")


def listens(port: int) -> bool:
    """Whether anything answers on this port of loopback."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0


def finish(command: Sequence[str], environment: Mapping[str, str] | None = None, given: str | None = None) -> str:
    """Run a command that ends, and return its output.

    Raises:
        RuntimeError: it failed; the message has its last words.
    """
    done = subprocess.run(command, env=environment, input=given, cwd="/", capture_output=True, text=True, check=False)
    if done.returncode:
        words = " ".join((done.stderr or done.stdout).split())[-500:]
        raise RuntimeError(f"{Path(command[0]).name} failed: {words}")
    return done.stdout


def write_private(path: Path, text: str) -> None:
    """A file that only its owner reads, never half written."""
    unfinished = path.with_suffix(".partial")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    unfinished.rename(path)
