"""The verbs that put new data to a model: predict, drift."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Final

import click

from flows.options import JSON_OPTION, PARAMS_OPTION, params_path, project_root, show

DRIFTED: Final = 3
INPUT_OPTION: Final = click.option(
    "--input",
    "source",
    type=click.Path(path_type=Path),
    required=True,
    help="A .csv, .parquet or .npy file, a data set folder, or a folder of images.",
)
MODEL_OPTION: Final = click.option(
    "--model",
    default="champion",
    show_default=True,
    help="A version's number or alias, a variant's folder, or artifacts/deploy; @PROFILE after it names a device.",
)
DELIMITER_OPTION: Final = click.option("--delimiter", default=",", show_default=True, help="Of a .csv input.")


@click.command()
@PARAMS_OPTION
@INPUT_OPTION
@DELIMITER_OPTION
@click.option("--output", type=click.Path(path_type=Path), required=True, help="A .csv or .parquet file.")
@MODEL_OPTION
@click.option("--keep", multiple=True, help="A column of the input that the output has too; any number of times.")
def predict(params: Path | None, source: Path, delimiter: str, output: Path, model: str, keep: tuple[str, ...]) -> None:
    """Label new data, with the probability of each class."""
    from flows.served import open_served
    from tasks.predict import predict as write

    with open_served(project_root(), params_path(params), model) as served:
        rows = write(served, source, output, keep, delimiter)
    click.echo(f"{output}: {rows:,} rows")


@click.command()
@PARAMS_OPTION
@INPUT_OPTION
@DELIMITER_OPTION
@MODEL_OPTION
@JSON_OPTION
def drift(params: Path | None, source: Path, delimiter: str, model: str, as_json: bool) -> None:
    """Compare new data with the training data, and the model's answers; exit code 3 where they have drifted."""
    from flows.served import drift_text, open_served
    from flows.workspace import existing
    from tasks.drift import drift as compare_data
    from tasks.params import load_params

    root, path = project_root(), params_path(params)
    with open_served(root, path, model) as served:
        artifacts = existing(root, path) / "artifacts"
        found = compare_data(served, artifacts, source, load_params(path).seed, delimiter)
    show([asdict(shift) for shift in found], drift_text(found), as_json)
    if any(shift.drifted for shift in found):
        sys.exit(DRIFTED)


VERBS: Final = (predict, drift)
