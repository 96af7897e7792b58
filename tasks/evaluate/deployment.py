"""What is handed over beside the report: served files, exports, and deploy.json, which says what a device is served."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks import checkpoint
from tasks.data.splits import Splits
from tasks.evaluate.candidates import measure
from tasks.evaluate.judgement import FINAL
from tasks.evaluate.profiles import against, choose
from tasks.evaluate.variants import PARENTS
from tasks.export.formats import Source, export_all
from tasks.export.onnx import interface
from tasks.export.packed import pack
from tasks.params import Evaluate, Exports


def hand_over(
    folders: Mapping[str, Path], rows: Sequence[Mapping[str, Any]], data: Splits, params: Evaluate, folder: Path
) -> dict[str, Any]:
    """Export the final model and its float parent, measure how they can be served, and choose for every device.

    rows: the variants as the gate judged them. folder: where files and deploy.json go, made here; `file` in what is
    told is relative to it.

    Returns:
        the summary's `files`, `exports`, `candidates` and `profiles`.

    Raises:
        ValueError: an extra is missing, or a file cannot be made or answers otherwise than its model.
    """
    parent = str(PARENTS[FINAL])
    files = {name: folders[name] / "model.onnx" for name in (parent, FINAL)}
    folder.mkdir()
    placed = {name: _place(file, folder / name) for name, file in files.items()}
    exports = _export(files, folders[parent], data, params.exports, folder)
    candidates = measure(files, parent, data.test, params)
    judged = {row["name"]: against(row["checks"]) for row in rows}
    profiles = [choose(device, profile, candidates, judged) for device, profile in params.profiles.items()]
    for profile in profiles:
        if served := profile["served"]:
            profile["served"] = served | {key: placed[served["model"]][key] for key in ("file", "sha256")}
    handed = {"files": [*placed.values()], "exports": exports, "profiles": profiles}
    told = {**interface(data.card), **handed}
    (folder / "deploy.json").write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    return {**handed, "candidates": [one.figures() for one in candidates]}


def _place(file: Path, folder: Path) -> dict[str, Any]:
    """The very file that is measured, and packed beside it, in a new folder that is called as its model."""
    folder.mkdir()
    served = Path(shutil.copyfile(file, folder / file.name))
    packed = pack(served)
    return {
        "model": folder.name,
        "file": f"{folder.name}/{served.name}",
        "sha256": hashlib.sha256(served.read_bytes()).hexdigest(),
        "size_bytes": served.stat().st_size,
        "packed": f"{folder.name}/{packed.name}",
        "packed_bytes": packed.stat().st_size,
    }


def _export(
    files: Mapping[str, Path], parent: Path, data: Splits, params: Exports, folder: Path
) -> list[dict[str, Any]]:
    network = checkpoint.load(parent, data.card)
    sources = [Source(name, file, network, integer=name == FINAL) for name, file in files.items()]
    return export_all(sources, params, data, folder)
