"""Where a stage finds what it reads and puts what it writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Files:
    """Paths by the names of the table in tasks/stages.py; a file or folder of `writes` does not exist yet.

    scratch: a folder for what may be lost between runs; None keeps nothing.
    """

    reads: Mapping[str, Path]
    writes: Mapping[str, Path]
    scratch: Path | None = None
