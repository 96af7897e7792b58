"""What can be known to be wrong before any work: params, plug-ins, files, disk."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from ruamel.yaml import YAML

from flows.deployments import clock
from flows.search.space import Space
from flows.workspace import location
from tasks.extras import EXTRAS, present, require_extra
from tasks.params import Factory, Params, Slim, Synthesis, load_params
from tasks.plugins import resolve
from tasks.stages import STAGES

MIN_FREE_BYTES: Final = 500_000_000
LATER: Final = "models: checked as soon as ingest has run"


def check_recipe(root: Path, params: Path) -> list[str]:
    """Lines that say what was checked.

    Raises:
        ValueError, FileNotFoundError, OSError: the first thing that is wrong.
    """
    recipe = load_params(params)
    # DVC watches these, and knows no defaults
    watched, given = dict.fromkeys(name for stage in STAGES.values() for name in stage.params), _given(params)
    if missing := [name for name in watched if name not in given]:
        raise ValueError(f"{params}: {_is_missing(missing[0])}")
    for field, factory in _factories(recipe).items():
        resolve(factory, field)
    _check_files(root, recipe)
    _check_extras(recipe)
    if recipe.schedule.cron:
        clock(recipe.schedule)
    fits = _check_models(location(root, params), recipe)
    free = shutil.disk_usage(root).free
    if free < MIN_FREE_BYTES:
        raise OSError(f"{root}: {free / 1e6:.0f} MB free; a run needs at least {MIN_FREE_BYTES / 1e6:.0f} MB")
    return [
        f"{params}: every section is valid",
        *(f"{field}: {factory.factory} found" for field, factory in _factories(recipe).items()),
        fits,
        f"disk: {free / 1e9:.1f} GB free",
        *_searchable(params, recipe),
        *(f"note: {line}" for line in _unwatched(root, recipe)),
    ]


def _searchable(params: Path, recipe: Params) -> list[str]:
    """How many recipes `downsize search` has to choose from, each of their values checked."""
    if not recipe.search.space:
        return []
    space = Space(params)
    return [f"search: {space.size():,.0f} recipes, {recipe.search.trials} of them to be tried"]


def _given(params: Path) -> set[str]:
    """The sections of the file, and their fields as `section.field`."""
    sections = YAML(typ="safe", pure=True).load(params.read_text(encoding="utf-8"))
    fields = {f"{name}.{key}" for name, section in sections.items() if isinstance(section, dict) for key in section}
    return {*sections, *fields}


def _is_missing(name: str) -> str:
    section, _, field = name.partition(".")
    if field:
        return f"{name} is missing; a stage depends on it, so write it out, with its default if that will do"
    return f"section {section} is missing; `{section}: {{}}` takes its defaults"


def _factories(recipe: Params) -> dict[str, Factory]:
    return {
        "ingest.source": recipe.ingest.source,
        **({"coreset.judge.student": judging} if (judging := _judging(recipe)) else {}),
        "teacher.model": recipe.teacher.model,
        **({"distill.assistant.model": assistant.model} if (assistant := recipe.distill.assistant) else {}),
        **({"distill.model": recipe.distill.model} if isinstance(recipe.distill.model, Factory) else {}),
    }


def _judging(recipe: Params) -> Factory | None:
    return recipe.coreset.judge.student if recipe.coreset.judge else None


def _check_files(root: Path, recipe: Params) -> None:
    for name in ("path", "folder"):
        value = recipe.ingest.source.args.get(name)
        if isinstance(value, str) and not (root / value).exists():
            raise FileNotFoundError(f"ingest.source.args.{name} is '{value}'; no such file or folder")
    extra = None if isinstance(recipe.coreset, Synthesis) else recipe.coreset.extra_weight
    if extra and not ((root / extra).is_file() and (root / extra).resolve().is_relative_to((root / "data").resolve())):
        raise FileNotFoundError(f"coreset.extra_weight is '{extra}'; no such file below data/, which DVC watches")
    if recipe.teacher.checkpoint and not (root / recipe.teacher.checkpoint).is_file():
        raise FileNotFoundError(f"teacher.checkpoint is '{recipe.teacher.checkpoint}'; no such file")
    for folder in recipe.distill.teachers:
        if not (root / folder / "model.json").is_file():
            raise FileNotFoundError(f"distill.teachers names '{folder}', which has no model.json; give a model folder")


def _check_extras(recipe: Params) -> None:
    for extra in EXTRAS:
        if extra in recipe.evaluate.exports.formats:
            require_extra(extra, "evaluate.exports.formats")
    for name, profile in recipe.evaluate.profiles.items():
        present(profile.runtimes, f"evaluate.profiles.{name}.runtimes")


def _check_models(folder: Path, recipe: Params) -> str:
    """Where ingest has run: find the slices, push a batch through the models, fit the checkpoint."""
    path = folder / "artifacts" / "data"
    if not path.is_dir():
        return LATER
    import torch

    from tasks.checkpoint import build, fit_weights_, read_weights
    from tasks.data.dataset import load_dataset

    if (card := load_dataset(path).card).source != recipe.ingest.source.model_dump(mode="json"):
        return LATER
    _check_slices(path, recipe)
    moments = torch.zeros(()), torch.ones(())
    if judging := _judging(recipe):
        build(judging, card, moments, recipe.seed, "coreset.judge.student")
    teacher = build(recipe.teacher.model, card, moments, recipe.seed, "teacher.model")
    if recipe.teacher.checkpoint:
        fit_weights_(teacher.model, read_weights(folder / recipe.teacher.checkpoint), "teacher.checkpoint")
    if assistant := recipe.distill.assistant:
        build(assistant.model, card, moments, recipe.seed, "distill.assistant.model")
    if isinstance(student := recipe.distill.model, Slim):
        from tasks.distill.students import slimmed

        student = slimmed(recipe.teacher.model, student)
    if isinstance(student, Factory):
        build(student, card, moments, recipe.seed, "distill.model")
    return f"models: take {card.input_shape}, give {len(card.classes)} logits"


def _check_slices(data: Path, recipe: Params) -> None:
    if recipe.evaluate.slices:
        import numpy as np

        from tasks.data.dataset import load_dataset
        from tasks.evaluate.groups import slice_members

        slice_members(load_dataset(data).table(), recipe.evaluate.slices, np.empty(0, np.int64))


def _unwatched(root: Path, recipe: Params) -> list[str]:
    """The user's modules that dvc.yaml does not name: DVC would not notice when they change."""
    text = (root / "dvc.yaml").read_text(encoding="utf-8")
    files = {f"{factory.factory.partition(':')[0].replace('.', '/')}.py" for factory in _factories(recipe).values()}
    return [
        f"add {name} to the deps of the stages in dvc.yaml that use it, so that a change of it re-runs them"
        for name in sorted(files)
        if not name.startswith("tasks/") and (root / name).is_file() and name not in text
    ]
