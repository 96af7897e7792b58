"""The `downsize` command: thin verbs; whatever is heavy is imported inside them."""

from __future__ import annotations

import errno
import gc
import json
import logging
import os
import signal
import sys
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from flows import registry_cli, serving_cli, warm
from flows.child import MAY_PASS, QUIET
from flows.options import JSON_OPTION, PARAMS_OPTION
from flows.options import params_path as _path
from flows.options import project_root as _root
from flows.options import show as _print


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show the traceback of a failure.")
@click.version_option(package_name="downsize")
def downsize(debug: bool) -> None:
    """From a data set and a PyTorch model to the smallest, fastest model proven not to be worse than you allow."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    for package in ("tasks", "flows"):
        logging.getLogger(package).setLevel(logging.INFO)


for verb in (*registry_cli.VERBS, *serving_cli.VERBS):
    downsize.add_command(verb)


@downsize.command()
@PARAMS_OPTION
def check(params: Path | None) -> None:
    """Validate everything that can be validated before any work."""
    from flows.check import check_recipe

    for line in check_recipe(_root(), _path(params)):
        click.echo(line)


@downsize.command()
@click.argument("name")
def stage(name: str) -> None:
    """Run one stage here and now, as dvc.yaml does."""
    from tasks.stages import run_stage

    run_stage(name, Path())


@downsize.command()
@PARAMS_OPTION
@click.option("--scratch", is_flag=True, help="In a new workspace of its own, beside any other run.")
@JSON_OPTION
def run(params: Path | None, scratch: bool, as_json: bool) -> None:
    """Run the whole chain; what is up to date is skipped."""
    from flows.launch import launch

    summary = launch(_root(), _path(params), "scratch" if scratch else "own")
    _print(summary, _comparison(summary, Path(summary["workspace"])), as_json)


@downsize.command()
@PARAMS_OPTION
@click.option("--pool", default=None, help="Hand the schedule to this Prefect work pool, whose workers run it.")
def serve(params: Path | None, pool: str | None) -> None:
    """Run the chain by the `schedule` of the params until stopped."""
    from flows.deployments import serve as serve_

    serve_(_root(), _path(params), pool)


@downsize.command()
@PARAMS_OPTION
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Trials at the same time.")
@click.option("--engine", type=click.Choice(["local", "ray"]), default="local", show_default=True)
@click.option("--name", default=None, help="Of a search beside others; by params, space and code where none is given.")
@click.option("--output", type=click.Path(path_type=Path), default=Path("params.best.yaml"), show_default=True)
@JSON_OPTION
def search(params: Path | None, workers: int, engine: str, name: str | None, output: Path, as_json: bool) -> None:
    """Walk the recipes that `search.space` spans, choose by the budget, and write the best as a params file."""
    try:
        from flows.search.search import Options, report_text
        from flows.search.search import search as walk
    except ImportError as error:
        raise ValueError(f"downsize search needs {error.name}; pip install 'downsize[search]'") from None
    outcome = walk(_root(), _path(params), Options(workers, engine, name, output))
    _print(outcome.facts(), report_text(outcome), as_json)
    if outcome.chosen is None:
        raise ValueError(outcome.said[0])


@downsize.command()
@PARAMS_OPTION
@JSON_OPTION
def report(params: Path | None, as_json: bool) -> None:
    """Print the last run's comparison again."""
    from flows.workspace import existing

    workspace = existing(_root(), _path(params))
    path = workspace / "reports" / "summary.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; `downsize run` makes it")
    summary = json.loads(path.read_text(encoding="utf-8"))
    _print(summary, _comparison(summary, workspace), as_json)


@downsize.command()
@PARAMS_OPTION
@click.option("--methods", default=None, help="Separated by commas; all where none is given.")
@click.option("--fractions", default="0.01,0.05,0.1,0.3", show_default=True, help="Of the training split.")
@click.option("--seeds", type=click.IntRange(min=1), default=3, show_default=True, help="Selections and trainings.")
@JSON_OPTION
def compare(params: Path | None, methods: str | None, fractions: str, seeds: int, as_json: bool) -> None:
    """Draw accuracy against fraction for many coreset methods, on the data and split of the last run."""
    from flows.workspace import existing
    from tasks.coreset import compare as coresets
    from tasks.files import Files
    from tasks.params import load_params

    recipe = load_params(_path(params))
    workspace = existing(_root(), _path(params))
    artifacts = workspace / "artifacts"
    cells = coresets.compare(
        recipe.coreset,
        recipe.seed,
        Files({"data": artifacts / "data", "split": artifacts / "split.npz"}, {}, artifacts / ".scratch"),
        methods=coresets.named_methods(methods),
        fractions=coresets.named_fractions(fractions),
        seeds=seeds,
    )
    coresets.write_comparison(cells, workspace / "reports")
    chart = f"Chart and table: {workspace / 'reports' / 'coreset_comparison'}.png, .csv"
    _print([asdict(cell) for cell in cells], f"{coresets.comparison_text(cells)}\n{chart}", as_json)


@downsize.command(name="list")
@click.argument("family", required=False)
@JSON_OPTION
def list_(family: str | None, as_json: bool) -> None:
    """What can be named in params.yaml: sources, models, coresets, losses, criteria and so on."""
    from flows.catalogue import catalogue

    entries = catalogue(family)
    lines = [f"{entry['family']:12} {entry['name']:18} {', '.join(entry['knobs'])}" for entry in entries]
    _print(entries, "\n".join(lines), as_json)


@downsize.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def pack(file: Path) -> None:
    """Write FILE.packed, much smaller where weights are zero or small integers; docs/packed.md has the format."""
    from tasks.export.packed import pack as write

    written = write(file)
    click.echo(f"{written}: {written.stat().st_size:,} of {file.stat().st_size:,} bytes")


@downsize.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def unpack(file: Path) -> None:
    """Write FILE again from FILE.packed, bit for bit."""
    from tasks.export.packed import unpack as write

    written = write(file)
    click.echo(f"{written}: {written.stat().st_size:,} bytes")


def main() -> None:
    """Run the command; every failure is one line on stderr and exit code 1 (2: wrong usage, 75: may pass later)."""
    if (code := warm.ask("flows.cli", sys.argv[1:])) is not None:
        sys.exit(code)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that children are stopped on the way out
    try:
        downsize(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        _fail("stopped")
    except KeyboardInterrupt:
        _fail("stopped")
    except ConnectionError as error:
        _fail(str(error), MAY_PASS)
    except OSError as error:
        _fail(_disk_line(error))
    except Exception as error:
        _fail(str(error) or type(error).__name__)
    finally:
        gc.freeze()  # or Python's last collections walk through all that was imported, for a second


def _fail(message: str, code: int = 1) -> None:
    if "--debug" in sys.argv:
        traceback.print_exc()
    click.echo(f"downsize: {' '.join(message.split())}", err=True)
    sys.exit(code)


def _disk_line(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = error.filename or Path.cwd()
        return f"no space left on the disk of {where}; free some and run again, nothing was half-written"
    return str(error)


def _comparison(summary: dict[str, Any], workspace: Path) -> str:
    from tasks.report.table import comparison_table

    return (
        f"{comparison_table(summary)}\n\n"
        f"Report:    {workspace / 'reports' / 'report.html'}\n"
        f"MLflow UI: mlflow ui --backend-store-uri {os.environ.get('MLFLOW_TRACKING_URI', 'sqlite:///mlflow.db')}"
    )


if __name__ == "__main__":
    main()
