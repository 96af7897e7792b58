"""How devices are served by one version of the registered model: what the record of all holds for its files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tasks.served import OWN

SHOWN_CHARS: Final = 5000  # that a tag of MLflow holds


@dataclass(frozen=True)
class Devices:
    """Rows of the record, `file` being relative to the version's folder, and the files to put there beside its own."""

    profiles: Sequence[Mapping[str, Any]]
    beside: Mapping[str, Path]

    def runtimes(self) -> list[str]:
        """Those that serve any device, sorted."""
        return sorted({row["served"]["runtime"] for row in self.profiles if row["served"]})

    def sha256(self) -> str:
        """Of all that is said of the devices; their files' hashes stand in it."""
        return hashlib.sha256(json.dumps(self.profiles, sort_keys=True).encode()).hexdigest()

    def text(self) -> str:
        """`cpu-1t: quantized in onnxruntime, 1 thread; ...`, the default first; else how it is served."""
        served = [(row["name"], row["served"]) for row in self.profiles if row["served"]]
        lines = [f"{name}: {way['model']} in {way['runtime']}, {_threads(way['threads'])}" for name, way in served]
        return ("; ".join(lines) or f"{OWN} in onnxruntime, {_threads(1)}")[:SHOWN_CHARS]


def devices_of(handed: Path, lineage: Mapping[str, Path], *, passed: bool) -> Devices:
    """What the record in `handed`, a folder that evaluate has handed over, holds for a version.

    A version serves its own file and those that it was made from, never one that was made from it. One that did not
    pass the gate, and whose own file no device is served, has no devices: there the record is about another model.
    lineage: folders of the version's variant and of those it was made from, by name, itself first.
    """
    rows = json.loads((handed / "deploy.json").read_text(encoding="utf-8"))["profiles"]
    own, *_ = lineage
    places, files = dict[str, str](), dict[str, Path]()
    for name, folder in lineage.items():
        with (folder / OWN).open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        if sha256 not in places:  # no file twice
            places[sha256] = OWN if name == own else f"{name}/{OWN}"
            files[places[sha256]] = folder / OWN
    asked = {places.get(row["served"]["sha256"]) for row in rows if row["served"]}
    if OWN not in asked and not passed:
        places = {}
    profiles = [_placed(row, places) for row in rows]
    wanted = {row["served"]["file"] for row in profiles if row["served"]} - {OWN}
    return Devices(profiles, {place: files[place] for place in sorted(wanted)})


def _placed(row: Mapping[str, Any], places: Mapping[str, str]) -> dict[str, Any]:
    """The profile's row with the file's place in the version; served is None where the version has no such file."""
    served = row["served"]
    if not served:
        return dict(row)
    if place := places.get(served["sha256"]):
        return {**row, "served": {**served, "file": place}}
    return {**row, "served": None, "misses": [f"{served['model']} is served there, which is another version"]}


def _threads(count: int) -> str:
    return f"{count} thread{'s' * (count > 1)}"
