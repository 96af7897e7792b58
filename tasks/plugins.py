"""`module:name` plus args: the user's own models and data sources, and the built-in ones by the same way."""

from __future__ import annotations

import inspect
import sys
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any

from tasks.params import Factory


def make(factory: Factory, field: str, **offered: object) -> Any:
    """Call what `factory` names with its args, and with each of `offered` that it takes and args do not give.

    field: where the factory stands in params.yaml, for messages.

    Raises:
        ValueError: no such module or name, an argument it does not take, or one that is missing.
    """
    target = resolve(factory, field)
    try:
        accepted, takes_any = _keywords(target)
    except ValueError:
        raise ValueError(
            f"{field}: {factory.factory} does not say what arguments it takes; wrap it in a function that does"
        ) from None
    if not takes_any:
        for name in factory.args:
            if name not in accepted:
                raise ValueError(f"{field}.args: {factory.factory} takes no '{name}'{_hint(name, accepted)}")
    filled = {name: value for name, value in offered.items() if name in accepted and name not in factory.args}
    arguments = {**filled, **factory.args}
    missing = [name for name, parameter in accepted.items() if _required(parameter) and name not in arguments]
    if missing:
        raise ValueError(f"{field}.args: {factory.factory} needs {', '.join(missing)}")
    return target(**arguments)


def resolve(factory: Factory, field: str) -> Any:
    """The object that `factory` names; modules beside params.yaml are found, as well as installed ones."""
    module_name, _, name = factory.factory.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and not f"{module_name}.".startswith(f"{error.name}."):
            raise ValueError(
                f"{field}: {module_name} needs the package '{error.name}', which is not installed"
            ) from None
        raise ValueError(f"{field}: no module '{module_name}' here or among the installed packages") from None
    if not hasattr(module, name):
        raise ValueError(f"{field}: {module_name} has no '{name}'{_hint(name, vars(module))}")
    target = getattr(module, name)
    if not callable(target):
        raise ValueError(f"{field}: {factory.factory} is a {type(target).__name__}; it must be callable")
    return target


def _keywords(target: Any) -> tuple[dict[str, inspect.Parameter], bool]:
    """The parameters `target` takes by name, and whether it takes any name at all."""
    parameters = inspect.signature(target).parameters.values()
    named = {p.name: p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    return named, any(p.kind is p.VAR_KEYWORD for p in parameters)


def _required(parameter: inspect.Parameter) -> bool:
    return parameter.default is parameter.empty


def _hint(name: str, known: Any) -> str:
    close = get_close_matches(name, [str(key) for key in known if not str(key).startswith("_")], n=1)
    return f"; did you mean '{close[0]}'?" if close else ""
