"""Great Expectations: rules in, failures out, Data Docs beside. The only importer of great_expectations."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from inspect import isabstract
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pandas as pd
from pydantic import JsonValue

EXAMPLES: Final = 5
COLUMN_ARGUMENTS: Final = ("column", "column_A", "column_B", "column_list")


@dataclass(frozen=True)
class Rule:
    """An expectation by its Great Expectations name, on one of the tables checked together.

    advice: what would do where it fails. field: of params.yaml, where the rule was asked for.
    """

    table: str
    type: str
    kwargs: Mapping[str, JsonValue]
    advice: str = ""
    field: str = "validate"


def check_rules(tables: Mapping[str, pd.DataFrame], rules: Sequence[Rule], docs: Path | None = None) -> list[str]:
    """Check every rule and build the Data Docs afresh in `docs`, if given, whatever comes out.

    tables: by name; the first column of each names its rows. Rules stand on these names.

    Returns:
        One phrase for each failed rule: expectation, column, limits, how many, examples, advice.

    Raises:
        ValueError: no such expectation, argument or column, with the closest name there is.
    """
    gx, expectations = _import()
    checks = [_expectation(expectations, rule, position, tables[rule.table]) for position, rule in enumerate(rules)]
    context = _context(gx, docs)
    source = context.data_sources.add_pandas("data")
    failures: dict[int, str] = {}
    for name, frame in tables.items():
        suite = context.suites.add(gx.ExpectationSuite(name=name))
        for rule, check in zip(rules, checks, strict=True):
            if rule.table == name:
                suite.add_expectation(check)
        batch = source.add_dataframe_asset(name).add_batch_definition_whole_dataframe("all rows")
        definition = context.validation_definitions.add(gx.ValidationDefinition(name=name, data=batch, suite=suite))
        shown = {
            "result_format": "SUMMARY",
            "partial_unexpected_count": EXAMPLES,
            "unexpected_index_column_names": [str(frame.columns[0])],
        }
        for result in definition.run(batch_parameters={"dataframe": frame}, result_format=shown).results:
            if not result.success:
                position = result.expectation_config.meta["rule"]
                failures[position] = _phrase(rules[position], result, str(frame.columns[0]))
    if docs is not None:
        context.build_data_docs()
    return [failures[position] for position in sorted(failures)]


def _import() -> tuple[ModuleType, ModuleType]:
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "module 'sre_\\w+' is deprecated", DeprecationWarning)
        import great_expectations
        from great_expectations import expectations
    return great_expectations, expectations


def _context(gx: ModuleType, docs: Path | None) -> Any:
    """A context in memory with at most one site, in `docs`; the default would make one in the temporary folder."""
    from great_expectations.data_context.types.base import (
        DataContextConfig,
        InMemoryStoreBackendDefaults,
        ProgressBarsConfig,
    )

    sites = {}
    if docs is not None:
        shutil.rmtree(docs, ignore_errors=True)
        docs.mkdir(parents=True)
        sites["local"] = {
            "class_name": "SiteBuilder",
            "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(docs.resolve())},
            "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
        }
    config = DataContextConfig(
        store_backend_defaults=InMemoryStoreBackendDefaults(),
        data_docs_sites=sites,
        progress_bars=ProgressBarsConfig(globally=False),
        analytics_enabled=False,
    )
    return gx.get_context(mode="ephemeral", project_config=config)


def _expectation(expectations: ModuleType, rule: Rule, position: int, frame: pd.DataFrame) -> Any:
    from great_expectations.compatibility.pydantic import ValidationError
    from great_expectations.expectations.expectation import Expectation

    known = {
        name: kind for name, kind in vars(expectations).items() if name.startswith("Expect") and not isabstract(kind)
    }
    if rule.type not in known:
        raise ValueError(f"{rule.field}: Great Expectations has no '{rule.type}'{_hint(rule.type, list(known))}")
    kind = known[rule.type]
    where = f"{rule.field}: {rule.type}"
    named = [rule.kwargs[argument] for argument in COLUMN_ARGUMENTS if argument in rule.kwargs]
    for column in [item for value in named for item in (value if isinstance(value, list) else [value])]:
        if str(column) not in frame.columns:
            raise ValueError(f"{where}: no column '{column}' in the data{_hint(str(column), list(frame.columns))}")
    for argument in rule.kwargs:
        if argument not in kind.__fields__:
            own = [name for name in kind.__fields__ if name not in Expectation.__fields__]
            raise ValueError(f"{where} takes no '{argument}'{_hint(argument, own)}")
    try:
        return kind(**{"notes": rule.advice or None, **rule.kwargs, "meta": {"rule": position}})
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{where}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def _phrase(rule: Rule, result: Any, key: str) -> str:
    """What failed, for a line in a terminal."""
    limits = ", ".join(f"{name} {_short(value)}" for name, value in rule.kwargs.items() if name not in COLUMN_ARGUMENTS)
    columns = next((rule.kwargs[name] for name in COLUMN_ARGUMENTS if name in rule.kwargs), "")
    about = f"{rule.table}.{_short(columns)}" if columns else rule.table
    head = f"{rule.type} {about}" + f" ({limits})" * bool(limits)
    return f"{head}: {_outcome(result, key)}" + f"; {rule.advice}" * bool(rule.advice)


def _outcome(result: Any, key: str) -> str:
    found: dict[str, Any] = result.result
    if not found:
        messages = [str(item["exception_message"]) for item in _exceptions(result.exception_info)]
        return f"could not be evaluated: {_short(messages[0] if messages else 'no reason given')}"
    if "partial_missing_list" in found:
        return f"missing {_short(found['partial_missing_list'])}"
    if "unexpected_count" not in found:
        return f"found {_short(found.get('observed_value'))}"
    rows = [
        f"{row[key]}" + "".join(f" ({_short(value)})" for name, value in row.items() if name != key)
        for row in found["partial_unexpected_index_list"]
    ]
    more = ", ..." if found["unexpected_count"] > len(rows) else ""
    return f"{found['unexpected_count']:,} of {found['element_count']:,}, {key} {', '.join(rows)}{more}"


def _exceptions(info: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """GX gives one exception flat, or several by the id of the metric that raised them."""
    if "exception_message" in info:
        return [info]
    return [value for value in info.values() if isinstance(value, Mapping) and "exception_message" in value]


def _short(value: object) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else " ".join(str(value).split())
    return text if len(text) <= 120 else f"{text[:117]}..."


def _hint(name: str, known: list[str]) -> str:
    close = get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else ""
