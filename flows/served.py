"""The model that new data are put to: a registered version, or a variant as a run has left it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tabulate import tabulate

from flows.workspace import tracked
from tasks.adapters.registry import open_registry
from tasks.measure.drift import Shift
from tasks.params import load_params
from tasks.served import Served


@contextmanager
def open_served(root: Path, params: Path, name: str) -> Iterator[Served]:
    """The version of this number or alias, or the variant in this folder.

    Raises:
        ValueError: there is no such version, or the folder is none of a variant.
        ConnectionError: the registry does not answer.
    """
    if (folder := Path(name)).is_dir():
        if lacking := [part for part in ("deploy.json", "model.onnx") if not (folder / part).is_file()]:
            raise ValueError(
                f"--model {name}: holds no {' and no '.join(lacking)}; name a variant's folder, such as "
                "artifacts/quantized, or a version's number or alias"
            )
        yield Served(folder, folder / "model.onnx")
        return
    tracked(root)
    recipe = load_params(params)
    with tempfile.TemporaryDirectory() as scratch:
        with open_registry(recipe.tracking, root, recipe.register_.model_name) as registry:
            fetched = registry.fetch(registry.resolve(name), Path(scratch))
        yield Served(fetched, fetched / "model.onnx")


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
