"""On what the figures were measured."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

# that decide how fast, and by which sums, bytes and bfloat16 are multiplied: x86, then Arm
INSTRUCTIONS = (
    *("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16"),
    *("asimddp", "i8mm", "bf16"),
)
PACKAGES = ("torch", "onnxruntime", "onnx", "numpy", "scikit-learn", "torch-pruning")


def environment() -> dict[str, str | int]:
    """Python, packages and processor; no host name, no time."""
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu": processor(),
        "cores": os.cpu_count() or 1,
        "latency_threads": 1,
    }


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Its name, which tells little in a virtual machine, and those of INSTRUCTIONS that it has."""
    text = cpuinfo.read_text(encoding="utf-8", errors="replace") if cpuinfo.is_file() else ""
    facts: dict[str, str] = {}
    for key, _, value in (line.partition(":") for line in text.splitlines()):
        facts.setdefault(key.strip(), value.strip())
    has = facts.get("flags", facts.get("Features", "")).split()
    found = ", ".join(name for name in INSTRUCTIONS if name in has)
    name = facts.get("model name") or platform.processor() or platform.machine()
    return f"{name} ({found})" if found else name
