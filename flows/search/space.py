"""The recipes that a params file spans: what may vary, and each combination as params of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from copy import deepcopy
from itertools import takewhile
from math import prod
from pathlib import Path
from typing import Any, Final

from pydantic import JsonValue

from tasks.params import Params, Search, Span, parse_params, read_params
from tasks.params.search import VARIED

Raw = dict[str, Any]
# whose epochs are cut where a trial is to be halved; the teacher is the reference and stays as it is
HALVED: Final = ("distill", "prune")


class Space:
    """The params file as written, and what its `search.space` lets vary.

    Raises:
        ValueError: no space, a name that the file does not set, or a value with which the params are not valid.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.raw = path, read_params(path)
        self.search: Search = parse_params(self.raw, str(path)).search
        if not self.search.space:
            raise ValueError(f"{path}: search.space is empty; name what may vary, as prune.target.macs: [0.3, 0.5]")
        self.start = {name: _value(self.raw, name, path) for name in self.search.space}
        for name in self.search.space:
            self._checked(name)

    def encoded(self, values: Mapping[str, JsonValue]) -> dict[str, Any]:
        """Values as Optuna stores them."""
        spans = self.search.space
        return {name: value if isinstance(spans[name], Span) else _json(value) for name, value in values.items()}

    def decoded(self, stored: Mapping[str, Any]) -> dict[str, JsonValue]:
        """Values as the params take them."""
        spans = self.search.space
        return {name: value if isinstance(spans[name], Span) else json.loads(value) for name, value in stored.items()}

    def recipe(self, values: Mapping[str, JsonValue]) -> Raw:
        """The file with these values in the place of its own, and without its search."""
        raw = deepcopy(self.raw)
        for name, value in values.items():
            set_value(raw, name, value)
        raw.pop("search", None)
        return raw

    def params(self, values: Mapping[str, JsonValue], source: str) -> Params:
        """The recipe, checked.

        Raises:
            ValueError: the params are not valid with these values.
        """
        return parse_params(self.recipe(values), source)

    def shared(self) -> list[str]:
        """Stages that with all before them are the same in every trial: teacher, and up to the first that varies."""
        varying = {name.partition(".")[0] for name in self.search.space} | set(HALVED if self.search.halving else ())
        return ["teacher", *takewhile(lambda name: name not in varying, VARIED)]

    def size(self) -> float:
        """How many recipes there are; infinite where a span has no step."""
        return prod(self._count(name) for name in self.search.space)

    def _count(self, name: str) -> float:
        vary = self.search.space[name]
        if not isinstance(vary, Span):
            return len(self.listed(name))
        if vary.step is None and not self.whole(name):
            return float("inf")
        return round(vary.span / (vary.step or 1)) + 1

    def whole(self, name: str) -> bool:
        """Whether a span is one of whole numbers, as are the value in the file and what it is counted by."""
        vary = self.search.space[name]
        assert isinstance(vary, Span)
        return all(isinstance(value, int) for value in (self.start[name], vary.low, vary.high, vary.step or 1))

    def listed(self, name: str) -> list[JsonValue]:
        """The value in the file first, then the others."""
        vary = self.search.space[name]
        assert not isinstance(vary, Span)
        return list({_json(value): value for value in (self.start[name], *vary)}.values())

    def _checked(self, name: str) -> None:
        """The start is one of the candidates, and with each of them the params are valid."""
        vary, start = self.search.space[name], self.start[name]
        if isinstance(vary, Span) and not _holds(vary, start):
            raise ValueError(
                f"{self.path}: {name} is {_json(start)}, which is none of search.space.{name}, {vary.low} to "
                f"{vary.high}{f' by {vary.step}' if vary.step else ''}; the search starts from the file's own values"
            )
        for value in [vary.low, vary.high] if isinstance(vary, Span) else self.listed(name):
            self.params({name: value}, f"{self.path}: search.space.{name} {_json(value)}")


def halved(raw: Raw, share: float) -> Raw:
    """The recipe with `share` of the epochs in student and recovery, at least one."""
    cut = deepcopy(raw)
    for section in HALVED:
        for train in _trainings(cut.get(section)):
            train["epochs"] = max(1, round(share * train["epochs"]))
    return cut


def set_value(raw: Any, name: str, value: JsonValue) -> None:
    """Put a value in the place of the one that the dotted name finds."""
    *way, last = name.split(".")
    for key in way:
        raw = raw[_key(raw, key)]
    raw[_key(raw, last)] = deepcopy(value)


def _value(raw: Any, name: str, path: Path) -> JsonValue:
    for place, key in enumerate(name.split(".")):
        try:
            raw = raw[_key(raw, key)]
        except (KeyError, IndexError, TypeError, ValueError):
            above = ".".join(name.split(".")[:place])
            there = f"; {above or 'the file'} sets {', '.join(map(str, raw))}" if isinstance(raw, dict) else ""
            raise ValueError(
                f"{path}: search.space names {name}, which the file does not set{there}; set it first"
            ) from None
    found: JsonValue = raw
    return found


def _key(raw: Any, key: str) -> str | int:
    return int(key) if isinstance(raw, list) else key


def _trainings(value: Any) -> Iterator[dict[str, Any]]:
    """Every mapping in it that sets a number of epochs."""
    if isinstance(value, dict):
        if isinstance(value.get("epochs"), int):
            yield value
        for item in value.values():
            yield from _trainings(item)


def _holds(span: Span, value: JsonValue) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float) or not span.low <= value <= span.high:
        return False
    steps = (value - span.low) / (span.step or 1)
    return span.step is None or abs(steps - round(steps)) < 1e-9


def _json(value: JsonValue) -> str:
    return json.dumps(value, sort_keys=True)
