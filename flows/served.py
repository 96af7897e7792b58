"""The model that new data are put to: a registered version, or a variant as a run has left it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tabulate import tabulate

from flows.workspace import tracked
from tasks.adapters.packaging import RECORD
from tasks.adapters.registry import open_registry
from tasks.export.packed import SUFFIX, unpacked
from tasks.measure.drift import Shift
from tasks.params import load_params
from tasks.served import Served, on_device


@contextmanager
def open_served(root: Path, params: Path, name: str) -> Iterator[Served]:
    """The version of this number or alias, the variant in this folder, or what a device is served.

    name: after an @ it may have a profile, of a version or of the folder of what was handed over: `champion@cpu-1t`,
    `artifacts/deploy@cpu-1t`; without one it is the first profile that anything is served on.

    Raises:
        ValueError: there is no such version or profile, or the folder is none of a variant.
        ConnectionError: the registry does not answer.
    """
    place, profile = _place(name)
    if Path(place).is_dir():
        yield _in_folder(Path(place), profile)
        return
    tracked(root)
    recipe = load_params(params)
    with tempfile.TemporaryDirectory() as scratch:
        with open_registry(recipe.tracking, root, recipe.register_.model_name) as registry:
            version = registry.resolve(place)
            saved = registry.download(version, Path(scratch))
        yield _registered(saved, profile, f"{registry.model_name}, version {version.number}")


def _place(name: str) -> tuple[str, str]:
    """A folder, or a version's number or alias, and the profile that the name has after it."""
    place, at, profile = name.rpartition("@")
    return (place, profile) if at and not Path(name).is_dir() else (name, "")


def _registered(folder: Path, profile: str, name: str) -> Served:
    """As MLflow itself loads the version; one that was registered before versions had a record has no profiles."""
    if not (folder / RECORD).is_file():
        if profile:
            raise ValueError(f"{name}: has no profile '{profile}'; there is none")
        return Served(folder / "variant", folder / "model.onnx")
    try:
        return on_device(folder, profile)
    except ValueError as error:
        raise ValueError(str(error).replace(str(folder), name)) from None


def _in_folder(folder: Path, profile: str) -> Served:
    deploy = folder / "deploy.json"
    if profile or (deploy.is_file() and "profiles" in json.loads(deploy.read_text(encoding="utf-8"))):
        return on_device(folder, profile, _expanded)
    model = folder / "model.onnx"
    if lacking := [file.name for file in (deploy, model) if not (file.is_file() or _packed(file).is_file())]:
        raise ValueError(
            f"--model {folder}: holds no {' and no '.join(lacking)}; name a variant's folder, such as "
            "artifacts/quantized, or a version's number or alias"
        )
    return Served(folder, _expanded(model))


def _packed(file: Path) -> Path:
    return file.with_name(file.name + SUFFIX)


def _expanded(file: Path) -> bytes:
    """What the file holds; where it lies there packed alone, that is expanded in memory, once.

    Raises:
        ValueError: the packed file is damaged, or none.
    """
    if file.is_file() or not _packed(file).is_file():
        return file.read_bytes()
    try:
        return unpacked(_packed(file).read_bytes())
    except ValueError as error:
        raise ValueError(f"{_packed(file)}: {error}") from None


def drift_text(found: Sequence[Shift]) -> str:
    """A table of all columns, and the verdict in one line."""
    rows = [
        [shift.column, shift.before, shift.after, f"{shift.distance:.2f}", f"{shift.p_value:.2g}", shift.drifted]
        for shift in found
    ]
    table = tabulate(
        [[*row[:-1], "drifted" if row[-1] else ""] for row in rows],
        ["column", "learned from", "new", "distance", "p (Holm)", ""],
        disable_numparse=True,
    )
    moved = [shift.column for shift in found if shift.drifted]
    return f"{table}\n\n{'Drifted: ' + ', '.join(moved) if moved else 'No drift.'}"
