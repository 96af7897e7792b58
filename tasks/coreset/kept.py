"""Evidence kept between runs, so that another method or budget need not train the proxy again."""

from __future__ import annotations

import logging
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np

from tasks.coreset.evidence import Evidence
from tasks.training.scratch import Scratch

log = logging.getLogger(__name__)

FILES_KEPT: Final = 4
ALWAYS: Final = ("features", "labels")
DYNAMICS: Final = ("probabilities", "hidden_norms", "right", "margins", "recalls")


def kept_evidence(
    scratch: Scratch | None, identity: str, make: Callable[[], Evidence], *, dynamics: bool
) -> tuple[Evidence, bool]:
    """What `make` gives, and whether a run before had it made.

    identity: of all that decides it but the data, the code and `dynamics`; evidence with these serves without, too.
    """
    if scratch is None:
        return make(), False
    folder = scratch.folder / "evidence"
    key = scratch.key(identity)
    paths = [folder / f"{key}.dynamics.npz", *([] if dynamics else [folder / f"{key}.npz"])]
    for path in paths:
        if (found := _load(path, (*ALWAYS, *DYNAMICS) if dynamics else ALWAYS)) is not None:
            path.touch()  # the latest used are kept
            return found, True
    evidence = make()
    _save(paths[-1], evidence)
    for old in sorted(folder.glob("*.npz"), key=lambda path: path.stat().st_mtime)[:-FILES_KEPT]:
        old.unlink(missing_ok=True)
    return evidence, False


def _load(path: Path, names: tuple[str, ...]) -> Evidence | None:
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            return Evidence(**{name: file[name] for name in names})
    except FileNotFoundError:
        return None
    except (zipfile.BadZipFile, EOFError, KeyError, ValueError):
        log.warning("coreset: %s is not whole; the proxy is trained again", path)
        return None


def _save(path: Path, evidence: Evidence) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {name: value for name in (*ALWAYS, *DYNAMICS) if (value := getattr(evidence, name)) is not None}
    partial = path.with_suffix(f".{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            np.savez(file, **arrays)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
