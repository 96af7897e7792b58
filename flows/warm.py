"""The warm process: it imports once what every stage needs seconds for, and forks itself for each that asks.

`warm.py --serve ADDRESS` is that process; `warm.py MODULE ARGUMENT...` is `python -m MODULE ARGUMENT...`, forked by it
where there is one. Run by path, with nothing but the standard library until the packages come. It never imports the
project's own code, which may change while a flow runs: each child reads that for itself.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping
    from multiprocessing.context import ForkProcess

ADDRESS: Final = "DOWNSIZE_WARM"  # the variable that holds it, a name in Linux's abstract namespace
KILLED: Final = 137
PATIENCE_S: Final = 10.0
# what stages import, as far as it is slow and starts no thread: onnxruntime does, and is quick
PACKAGES: Final = (
    "dvc.commands.repro",
    "dvc.repo",
    "click",
    "ruamel.yaml",
    "pandas",
    "pyarrow.dataset",
    "mlflow.pyfunc",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.store.model_registry.sqlalchemy_store",
    "scipy.stats",
    "sklearn.cluster",
    "sklearn.datasets",
    "sklearn.decomposition",
    "great_expectations.expectations",
    "torch.onnx",
    "torch.export",
    "torch._dynamo",  # by the first optimizer
    "torch._functorch.aot_autograd",  # this and the next by the first export
    "onnxscript.function_libs.torch_lib.ops",
    "torch_pruning",
    "onnx",
    "onnxscript.rewriter",
    "safetensors.torch",
    "matplotlib.figure",
    "jinja2",
    "tabulate",
    "tqdm",
)
READ_ON_IMPORT: Final = ("OMP_", "MKL_", "OPENBLAS_", "LD_", "PYTHONHASHSEED")  # by packages; too late in a child
THREADS: Final = "OMP_NUM_THREADS"  # but this can be made good there
HARMLESS: Final = {"jemalloc_bg_thd"}  # pyarrow's allocator starts its own again after a fork


class Request(NamedTuple):
    """What `python -m` would be given, and where."""

    module: str
    arguments: list[str]
    folder: str
    environment: dict[str, str]


def ask(module: str, arguments: list[str]) -> int | None:
    """Have the warm process run a module as a process of this group, on these streams; returns the exit code.

    None where there is no warm process, or where it does not take it: it started threads, has ended, belongs to another
    session, or has other settings that packages read on import.
    """
    if not (address := os.environ.get(ADDRESS)):
        return None
    request = Request(module, arguments, os.getcwd(), dict(os.environ))
    with socket.socket(socket.AF_UNIX) as connection, connection.makefile("rb") as told, suppress(OSError):
        _hand_over(request, address, connection)
        if process := int(told.readline() or 0):
            return _await(process, told)
    sys.stderr.write(f"{' '.join(arguments)}: not from the warm process, so its packages are imported again\n")
    return None


def _hand_over(request: Request, address: str, connection: socket.socket) -> None:
    connection.connect(f"\0{address}")
    if _peer(connection)[1] == os.getuid():
        socket.send_fds(connection, [b"0"], [1, 2])
        connection.sendall(json.dumps(request._asdict()).encode() + b"\n")
    else:
        connection.shutdown(socket.SHUT_RD)


def _await(process: int, told: BinaryIO) -> int:
    """The exit code; where the warm process is killed, nobody can tell it, and what it forked is to end too."""
    with suppress(OSError):
        if code := told.readline():
            return int(code)
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGTERM)
    return KILLED


def serve(address: str) -> None:
    """Import, then fork for whoever asks, until stopped; end at once where a fork would lose a thread."""
    import gc
    from importlib import import_module

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0{address}")
        listener.listen()
        print(flush=True)  # noqa: T201  # whoever starts this waits for a sign that it may be asked
        for name in PACKAGES:
            with suppress(ImportError):
                import_module(name)
        if _threads() <= HARMLESS:
            gc.freeze()  # or each child's first collection would copy all of it
            _fork_for_all(listener)


def _fork_for_all(listener: socket.socket) -> None:
    from multiprocessing.connection import wait

    # by two things that become readable: one when the child has ended, one when who asked has
    running: dict[object, tuple[ForkProcess, socket.socket]] = {}
    while True:
        for ready in wait([listener, *running]):  # type: ignore[list-item]
            if ready is listener:
                connection, _ = listener.accept()
                # a child that held these would keep others waiting where this process is killed
                held = {listener, connection, *(other for _, other in running.values())}
                if forked := _fork(connection, held):
                    running[forked.sentinel] = running[connection] = forked, connection
                else:
                    connection.close()
            elif found := running.pop(ready, None):
                child, connection = found
                if ready is connection:
                    child.terminate()
                    continue
                running.pop(connection, None)
                child.join()
                code = child.exitcode or 0
                with connection, suppress(OSError):
                    connection.sendall(f"{code if code >= 0 else 128 - code}\n".encode())


def _fork(connection: socket.socket, held: set[socket.socket]) -> ForkProcess | None:
    """The process that was asked for; None where it is not for here, or whoever asked has been killed."""
    from multiprocessing import get_context

    connection.settimeout(PATIENCE_S)
    streams: list[int] = []
    asking, user = _peer(connection)
    if user != os.getuid():
        return None
    try:
        _, streams, _, _ = socket.recv_fds(connection, 1, 2)
        with connection.makefile("rb") as file:
            request = Request(**json.loads(file.readline()))
        if os.getsid(asking) != os.getsid(0) or not _same_on_import(request.environment):
            return None
        child = get_context("fork").Process(target=_become, args=(request, streams, os.getpgid(asking), held))
        child.start()
        connection.sendall(f"{child.pid}\n".encode())
        return child
    except (OSError, ValueError):
        return None
    finally:
        for stream in streams:
            os.close(stream)


def _become(request: Request, streams: list[int], group: int, held: set[socket.socket]) -> None:
    """In the child: what `python -m` does, in the group of whoever asked, so that what ends that ends this too."""
    import runpy

    for stream, target in zip(streams, (1, 2), strict=True):
        os.dup2(stream, target)
        os.close(stream)
    for end in held:
        end.close()
    os.setpgid(0, group)
    os.chdir(request.folder)
    threads = os.environ.get(THREADS)
    os.environ.clear()
    os.environ.update(request.environment)
    if request.environment.get(THREADS) != threads:
        _use_threads(int(request.environment[THREADS]))
    if request.module != "dvc":  # DVC starts stages, and they may ask again
        del os.environ[ADDRESS]
    sys.path[:0] = [request.folder, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    sys.argv = [request.module, *request.arguments]
    name = f"{request.module.partition('.')[0]} {' '.join(request.arguments[-1:])}"
    Path("/proc/self/comm").write_text(name[:15])  # what ps and top show
    runpy.run_module(request.module, run_name="__main__", alter_sys=True)


def _use_threads(number: int) -> None:
    import threadpoolctl
    import torch

    threadpoolctl.threadpool_limits(number)
    torch.set_num_threads(number)


def _same_on_import(environment: Mapping[str, str]) -> bool:
    """Whether packages have read what they would in this environment, but for a number of threads that can be set."""

    def read(of: Mapping[str, str]) -> dict[str, str]:
        return {name: value for name, value in of.items() if name.startswith(READ_ON_IMPORT) and name != THREADS}

    threads, own = environment.get(THREADS), os.environ.get(THREADS)
    return read(environment) == read(os.environ) and (threads == own or (threads or "").isdecimal())


def _peer(connection: socket.socket) -> tuple[int, int]:
    """The other side's process and user."""
    process, user, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return process, user


def _threads() -> set[str]:
    """Those that a fork would lose, by name: OpenBLAS ends its own before one, and starts them again."""
    if not (child := os.fork()):
        os._exit(0)
    os.waitpid(child, 0)
    tasks = Path("/proc/self/task")
    return {(task / "comm").read_text().strip() for task in tasks.iterdir() if task.name != str(os.getpid())}


def main() -> None:
    """As the first argument says; a module that nobody takes is run by Python itself."""
    first, *rest = sys.argv[1:]
    if first == "--serve":
        serve(*rest)
    elif (code := ask(first, rest)) is not None:
        sys.exit(code)
    else:
        os.execv(sys.executable, [sys.executable, "-m", first, *rest])


if __name__ == "__main__":
    main()
