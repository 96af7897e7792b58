"""What is said twice must be the same both times."""

import ast
import re
import tomllib
from pathlib import Path
from typing import get_args

import pytest
from ruamel.yaml import YAML

from flows.catalogue import catalogue
from tasks import params
from tasks.coreset.selection import SELECTIONS
from tasks.coreset.synthesis.make import SYNTHESES
from tasks.data.corruptions import ALL
from tasks.export.formats import FORMATS
from tasks.extras import EXTRAS
from tasks.measure.runtime import RUNTIMES
from tasks.prune.criteria import CRITERIA
from tasks.prune.schedules import SCHEDULES
from tasks.quantize.calibration import CALIBRATIONS
from tasks.quantize.schemes import SCHEMES
from tasks.quantize.trained import TRAINED
from tasks.quantize.weights import WEIGHTS
from tasks.stages import STAGES
from tasks.training.losses import LOSSES
from tasks.training.objective import NOT_KNOBS

ROOT = Path(__file__).parents[1]
PIPELINE = YAML(typ="safe", pure=True).load((ROOT / "dvc.yaml").read_text())["stages"]
AROUND = ("budget", "tracking", "timeouts", "schedule", "notify", "search")
VERSIONED = {name: stage for name, stage in STAGES.items() if name != "register"}


def test_the_flow_calls_the_stages_in_the_table_s_order():
    tree = ast.parse((ROOT / "flows/downsize.py").read_text())
    flow = next(node for node in tree.body if isinstance(node, ast.FunctionDef))
    calls = [n.value.func.id for n in ast.walk(flow) if isinstance(n, ast.Expr) and isinstance(n.value, ast.Call)]
    assert [name for name in calls if name not in ("check", "approve")] == list(STAGES)


def test_params_have_a_section_per_stage_in_the_same_order():
    sections = [field.alias or name for name, field in params.Params.model_fields.items()]
    assert sections == ["seed", *STAGES, *AROUND]


@pytest.mark.parametrize("file", ["params.yaml", "params.fashion.yaml", "params.smoke.yaml"])
def test_shipped_params_are_valid_and_name_every_section(file):
    params.load_params(ROOT / file)
    given = YAML(typ="safe", pure=True).load((ROOT / file).read_text())
    assert list(given) == ["seed", *STAGES, *AROUND]


def test_dvc_yaml_has_the_same_stages():
    assert list(PIPELINE) == list(VERSIONED)


@pytest.mark.parametrize("name", VERSIONED)
def test_dvc_yaml_reads_writes_and_watches_what_the_table_says(name):
    stage, entry = VERSIONED[name], PIPELINE[name]
    assert entry["cmd"] == f"downsize stage {name}"
    assert entry["params"] == list(stage.params)
    assert {dep for dep in entry["deps"] if not dep.startswith("tasks")} == set(stage.reads.values())
    assert set(entry["outs"]) == set(stage.writes.values())
    assert entry["metrics"] == [{f"metrics/{name}.json": {"cache": False}}]


@pytest.mark.parametrize("name", VERSIONED)
def test_dvc_yaml_watches_all_code_that_the_stage_imports(name):
    start = VERSIONED[name].function.partition(":")[0]
    watched = [ROOT / dep for dep in PIPELINE[name]["deps"] if dep.startswith("tasks")]
    unwatched = [
        str(file.relative_to(ROOT))
        for file in import_closure(start)
        if not any(file == dep or dep in file.parents for dep in watched)
    ]
    assert unwatched == []


@pytest.mark.parametrize(
    ("family", "table"),
    [
        ("coreset", SELECTIONS | SYNTHESES),
        ("loss", LOSSES),
        ("criterion", CRITERIA),
        ("schedule", SCHEDULES),
        ("calibration", [*CALIBRATIONS, "auto"]),
        ("rounding", [*WEIGHTS, "gptq", "adaround"]),
        ("scheme", SCHEMES | TRAINED),
        ("export", FORMATS),
    ],
)
def test_params_name_the_entries_of_each_table(family, table):
    assert {entry["name"] for entry in catalogue(family)} == set(table)


def test_params_name_every_corruption():
    assert set(get_args(params.outcome.Corruption)) == set(ALL) == {entry["name"] for entry in catalogue("corruption")}


def test_exports_and_runtimes_are_called_the_same_in_params_tables_and_extras():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert list(get_args(params.ExportFormat)) == list(FORMATS)
    assert list(get_args(params.Runtime)) == list(RUNTIMES)
    assert set(EXTRAS) <= set(extras) and set(EXTRAS) <= set(FORMATS)


def test_every_knob_of_a_loss_is_an_argument_of_its_function():
    for model in get_args(get_args(params.Loss)[0]):
        (method,) = get_args(model.model_fields["method"].annotation)
        knobs = set(model.model_fields) - NOT_KNOBS
        assert knobs == set(LOSSES[method].__kwdefaults__ or {})


def test_every_verb_and_method_stands_in_the_reference():
    from flows.cli import downsize

    text = (ROOT / "docs/reference.md").read_text()
    names = [f"downsize {verb}" for verb in downsize.commands] + [entry["name"] for entry in catalogue()]
    assert [name for name in names if name not in text] == []


def test_constraints_hold_back_what_breaks_prefect():
    pins = dict(re.findall(r"^([\w-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    assert tuple(map(int, pins["fastapi"].split("."))) < (0, 151)
    assert tuple(map(int, pins["SQLAlchemy"].split("."))) < (2, 1)


def import_closure(module):
    """Every file below tasks/ that importing `module` needs, adapters of MLflow aside (they make no output)."""
    found, waiting = set(), [module]
    while waiting:
        name = waiting.pop()
        path = ROOT / (name.replace(".", "/") + ".py")
        path = path if path.is_file() else ROOT / name.replace(".", "/") / "__init__.py"
        if not name.startswith("tasks") or not path.is_file() or path in found:
            continue
        if path != ROOT / "tasks/__init__.py":
            found.add(path)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                waiting += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            elif isinstance(node, ast.Import):
                waiting += [alias.name for alias in node.names]
    return {path for path in found if path.name != "__init__.py"}
