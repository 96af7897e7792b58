"""One change of a registered model at a time, over all processes and machines.

Beside SQLite a lock on a file does it, which the system itself takes back from a process that is killed. Over REST
MLflow knows no compare-and-set, but it numbers versions atomically and never twice: each who wants to change `NAME`
takes a version of `NAME.lock` as a ticket, and the lowest ticket has its turn. Docs: decisions/0014.
"""

from __future__ import annotations

import fcntl
import getpass
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from mlflow import MlflowClient

LEASE_S: Final = 40.0  # who holds a ticket's turn for longer must not change anything any more
DEAD_S: Final = 60.0  # and is taken for dead; the difference is for a request on its way
WAIT_S: Final = 180.0
POLL_S: Final = 0.2
TICKET: Final = "ticket:/downsize"  # a version needs a source; nothing is ever read from this one
HELD_BY: Final = "held_by"

Still = Callable[[], None]


@contextmanager
def exclusive(client: MlflowClient, uri: str, name: str) -> Iterator[Still]:
    """Hold the lock on the registered model `name` of the store at `uri`; not to be taken twice by one process.

    Yields what is to be called before the change that counts; it raises once the lock may be another's.

    Raises:
        TimeoutError: another holds it for too long; the message says who.
    """
    if uri.startswith("sqlite:///"):
        with _file(Path(f"{uri.removeprefix('sqlite:///')}.lock"), name):
            yield lambda: None
        return
    with _ticket(client, name) as still:
        yield still


def who() -> str:
    """`user@host` of this process."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


@contextmanager
def _file(path: Path, name: str) -> Iterator[None]:
    with path.open("a+", encoding="utf-8") as file:
        deadline = time.monotonic() + WAIT_S
        while not _locked(file.fileno()):
            if time.monotonic() > deadline:
                file.seek(0)
                raise _too_long(name, file.read())
            time.sleep(POLL_S)
        file.truncate(0)
        file.write(f"{who()}, process {os.getpid()}")
        file.flush()
        yield


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _ticket(client: MlflowClient, name: str) -> Iterator[Still]:
    from mlflow.exceptions import MlflowException

    lock, begun = f"{name}.lock", time.monotonic()
    try:
        client.create_registered_model(lock, description=f"Who is changing {name}; without versions while nobody is.")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    own = int(client.create_model_version(lock, TICKET, tags={HELD_BY: who()}, await_creation_for=0).version)
    try:
        turn = _wait(client, lock, own, begun)

        def still() -> None:
            if time.monotonic() > turn + LEASE_S:
                raise TimeoutError(f"{name}: the lock was held for more than {LEASE_S:.0f} s and is given up")

        yield still
    finally:
        _drop(client, lock, own)


def _wait(client: MlflowClient, lock: str, own: int, begun: float) -> float:
    """Wait for the turn of ticket `own`; a ticket seen in turn for DEAD_S is taken away.

    Returns the last moment before the turn, by this machine's clock: nobody can have seen it begin earlier, so that
    the lease ends before anyone takes the ticket away. Clocks of different machines are never compared.
    """
    holder, since, before = 0, 0.0, begun
    while True:
        asked = time.monotonic()
        tickets = {int(found.version): found for found in client.search_model_versions(f"name = '{lock}'")}
        if own not in tickets:
            raise TimeoutError(f"{lock}: the ticket {own} was taken away while it waited; try again")
        first = min(tickets)
        if first == own:
            return before
        before = asked
        if first != holder:
            holder, since = first, time.monotonic()
        elif asked > since + DEAD_S:
            _drop(client, lock, first)
        elif asked > begun + WAIT_S:
            raise _too_long(lock.removesuffix(".lock"), tickets[first].tags.get(HELD_BY, ""))
        time.sleep(POLL_S)


def _drop(client: MlflowClient, lock: str, ticket: int) -> None:
    """Deleting what is gone already is no error."""
    from mlflow.exceptions import MlflowException

    try:
        client.delete_model_version(lock, str(ticket))
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise


def _too_long(name: str, holder: str) -> TimeoutError:
    return TimeoutError(
        f"{name}: {holder or 'another process'} has been changing it for {WAIT_S:.0f} s; try again later"
    )
