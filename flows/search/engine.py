"""Where trials run: on this machine or on a Ray cluster; either is `submit` and a future, and no more."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, Final, Protocol

import psutil


class Engine(Protocol):
    """The part of concurrent.futures.Executor that a search needs."""

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Future[Any]:
        """Start the call soon; the future holds its result or its error."""
        ...


@contextmanager
def local(workers: int) -> Iterator[Engine]:
    """Threads that wait for processes. Whatever ends the search ends them, and all that they have started."""
    pool = ThreadPoolExecutor(workers, thread_name_prefix="trial")
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        _stop_children()
        raise
    finally:
        pool.shutdown()


@contextmanager
def ray(workers: int) -> Iterator[Engine]:
    """The cluster of RAY_ADDRESS, or one on this machine; workspaces must lie where all of its machines find them.

    Raises:
        ValueError: Ray is not installed.
    """
    try:
        import ray as cluster
    except ImportError:
        raise ValueError("--engine ray needs Ray; pip install 'downsize[ray]'") from None
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    alone = {"num_cpus": workers, "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    here = {} if os.environ.get("RAY_ADDRESS") else alone
    cluster.init(log_to_driver=False, **here)

    class Remote:
        def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Future[Any]:
            found: Future[Any] = cluster.remote(num_cpus=1, max_retries=0)(function).remote(*arguments).future()
            return found

    try:
        yield Remote()
    finally:
        cluster.shutdown()


ENGINES: Final = {"local": local, "ray": ray}


def _stop_children() -> None:
    """Each child leads a process group of its own."""
    for child in psutil.Process().children():
        with suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getpgid(child.pid) == child.pid:
                os.killpg(child.pid, signal.SIGTERM)
