from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.adapters import lock
from tasks.adapters.client import mlflow_client
from tasks.params import Tracking
from tests.mlflow_project import migrated_database

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """A store in which tickets are taken as over REST."""
    monkeypatch.setattr(lock, "POLL_S", 0.02)
    (tmp_path / "mlflow.db").write_bytes(migrated_database())
    with mlflow_client(Tracking(uri=f"sqlite:///{tmp_path}/mlflow.db"), tmp_path) as opened:
        yield opened


def tickets(client) -> list[int]:
    return sorted(int(found.version) for found in client.search_model_versions("name = 'toy.lock'"))


def test_one_after_the_other_has_its_turn(client) -> None:
    inside: list[int] = []
    most: list[int] = []

    def work() -> None:
        with lock._ticket(client, "toy"):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.05)
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1, 1]
    assert tickets(client) == []


def test_a_ticket_s_number_never_comes_again(client) -> None:
    for number in (1, 2):
        with lock._ticket(client, "toy"):
            assert tickets(client) == [number]


def test_the_ticket_of_a_killed_process_is_taken_away(client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "DEAD_S", 0.3)
    client.create_registered_model("toy.lock")
    client.create_model_version("toy.lock", lock.TICKET)
    begun = time.monotonic()
    with lock._ticket(client, "toy"):
        assert time.monotonic() - begun > 0.3
        assert tickets(client) == [2]


def test_who_holds_it_too_long_is_named(client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "WAIT_S", 0.2)
    client.create_registered_model("toy.lock")
    client.create_model_version("toy.lock", lock.TICKET, tags={"held_by": "ann@host"})
    with pytest.raises(TimeoutError, match=r"^toy: ann@host has been changing it for 0 s; try again later$"):
        lock._ticket(client, "toy").__enter__()
    assert tickets(client) == [1]


def test_whoever_wakes_up_after_its_lease_changes_nothing(client, monkeypatch: pytest.MonkeyPatch) -> None:
    with lock._ticket(client, "toy") as still:
        still()
        monkeypatch.setattr(lock, "LEASE_S", -1.0)
        with pytest.raises(TimeoutError, match="is given up"):
            still()
    assert lock.LEASE_S < lock.DEAD_S


def hold(path: Path, held: object) -> None:
    with lock._file(path, "toy"):
        held.set()
        time.sleep(60)


def test_a_killed_process_leaves_the_file_unlocked_and_a_living_one_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "WAIT_S", 0.2)
    path, held = tmp_path / "mlflow.db.lock", FORK.Event()
    process = FORK.Process(target=hold, args=(path, held))
    process.start()
    assert held.wait(20)
    with pytest.raises(TimeoutError, match=rf"^toy: \S+@\S+, process {process.pid} has been changing it"):
        lock._file(path, "toy").__enter__()
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    with lock._file(path, "toy"):
        pass
