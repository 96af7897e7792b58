"""What serving a file costs a process that has just started: time to the first answer, and memory at its peak.

Run as `python -m tasks.measure.fresh FILE RUNTIME THREADS SHAPE`, which prints the figures as JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class ColdStart:
    """import_ms: of the runtime, and not in cold_start_ms: opening the file and the first answer, to one sample.

    peak_memory_bytes: resident, of the whole process; import_memory_bytes: of it, before the file was opened.
    """

    cold_start_ms: float
    import_ms: float
    peak_memory_bytes: int
    import_memory_bytes: int


def cold_start(path: Path, runtime: str, threads: int, input_shape: Sequence[int]) -> ColdStart:
    """Measure in a process of its own.

    Raises:
        RuntimeError: the process failed; the message is its last line.
    """
    shape = ",".join(map(str, (1, *input_shape)))
    command = [sys.executable, "-m", "tasks.measure.fresh", str(path), runtime, str(threads), shape]
    code = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(code), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise RuntimeError(f"{path} in a fresh process: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
    return ColdStart(**json.loads(done.stdout))


def _peak_bytes() -> int:
    """Of this process so far; on Linux getrusage would count its parent's too."""
    if (status := Path("/proc/self/status")).is_file():
        line = next(line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM"))
        return 1024 * int(line.split()[1])
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main(path: str, runtime: str, threads: str, shape: str) -> None:
    """Open, answer once and print."""
    start = time.perf_counter()
    from tasks.measure.runtime import RUNTIMES

    if runtime == "openvino":
        __import__(runtime)
    imported, memory = time.perf_counter(), _peak_bytes()
    call = RUNTIMES[runtime](Path(path), int(threads))
    call(np.zeros([int(size) for size in shape.split(",")], np.float32))
    answered = time.perf_counter()
    found = ColdStart(1000 * (answered - imported), 1000 * (imported - start), _peak_bytes(), memory)
    sys.stdout.write(json.dumps(asdict(found)))


if __name__ == "__main__":
    main(*sys.argv[1:])
