"""A PostgreSQL cluster in a folder of its own, from Debian's package, on loopback."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from processes import HOST, finish, write_private


def start(folder: Path, port: int, password: str) -> None:
    """Make the cluster where there is none, and start it where it does not run."""
    if not folder.exists():
        new_cluster(folder, password)
    if not runs(folder):
        options = f"-p {port} -c listen_addresses={HOST} -c unix_socket_directories={folder}"
        log = str(folder / "server.log")
        as_owner([program("pg_ctl"), "-D", str(folder / "data"), "-w", "-l", log, "-o", options, "start"])


def stop(folder: Path) -> None:
    """End the server, if it runs."""
    if runs(folder):
        as_owner([program("pg_ctl"), "-D", str(folder / "data"), "-m", "fast", "-w", "stop"])


def runs(folder: Path) -> bool:
    """Whether this cluster's server lives."""
    if not (folder / "data").exists():
        return False
    status = owned([program("pg_ctl"), "-D", str(folder / "data"), "status"])
    return subprocess.run(status, cwd="/", capture_output=True, check=False).returncode == 0


def new_cluster(folder: Path, password: str) -> None:
    """Made under another name first: a start that is cut off leaves no half a cluster."""
    unfinished = folder.with_suffix(".partial")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    word = unfinished / "password"
    write_private(word, password)
    if os.geteuid() == 0:
        for path in (unfinished, word):
            shutil.chown(path, "postgres", "postgres")
    secured = ["-A", "scram-sha-256", "--pwfile", str(word), "-U", "admin", "-E", "UTF8", "--locale=C.UTF-8"]
    as_owner([program("initdb"), "-D", str(unfinished / "data"), *secured])
    word.unlink()
    unfinished.rename(folder)


def make_databases(port: int, admin: str, passwords: Mapping[str, str]) -> None:
    """A role and a database of the same name for each, with its own password; what exists stays."""
    known = psql(port, admin, "select datname from pg_database").split()
    for name, password in passwords.items():
        if name not in known:
            psql(port, admin, f"create role {name} login password '{password}'")
            psql(port, admin, f"create database {name} owner {name}")


def psql(port: int, password: str, statement: str, database: str = "postgres") -> str:
    """Run as the cluster's admin; the statement goes by standard input, so no process list shows a password."""
    address = ["-h", HOST, "-p", str(port), "-U", "admin", "-d", database]
    command = [program("psql"), *address, "-tAq", "-v", "ON_ERROR_STOP=1"]
    return finish(command, {**os.environ, "PGPASSWORD": password}, statement)


def as_owner(command: Sequence[str]) -> None:
    """Run one of PostgreSQL's commands that starts or makes a server, which keeps no pipe of ours open."""
    done = subprocess.run(
        owned(command), cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{Path(command[0]).name} failed: {' '.join(done.stderr.split())}")


def owned(command: Sequence[str]) -> list[str]:
    """PostgreSQL refuses to run as root, so there it runs as its own user."""
    return ["runuser", "-u", "postgres", "--", *command] if os.geteuid() == 0 else list(command)


def program(name: str) -> str:
    """One of PostgreSQL's, which Debian keeps out of PATH; the newest.

    Raises:
        RuntimeError: it is not installed.
    """
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[4]))
    path = str(found[-1]) if found else shutil.which(name)
    if not path:
        raise RuntimeError(f"PostgreSQL's {name} is missing: apt-get install postgresql")
    return path
