"""What the verbs of the command line share: options, look-ups, and the way to print."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import click

PARAMS_OPTION: Final = click.option(
    "--params", type=click.Path(path_type=Path), default=None, help="Params file; params.yaml where none is given."
)
JSON_OPTION: Final = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")


def project_root() -> Path:
    """The project around the current folder."""
    from flows.workspace import find_root

    return find_root(Path.cwd())


def params_path(params: Path | None) -> Path:
    """The params file that was named, or the project's own."""
    return params if params else project_root() / "params.yaml"


def show(value: object, text: str, as_json: bool) -> None:
    """Print the value as JSON, or the text."""
    click.echo(json.dumps(value, indent=2, default=str) if as_json else text)
