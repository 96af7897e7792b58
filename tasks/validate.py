"""Stage 2: stop before any training if the data are not what they should be."""

from __future__ import annotations

import json
from typing import Final

import numpy as np
import pandas as pd
from pydantic import JsonValue

from tasks.adapters.expectations import Rule, check_rules
from tasks.data.dataset import Dataset, load_dataset
from tasks.data.describe import column_table, scan
from tasks.files import Files
from tasks.params import Validate

SAMPLES: Final = "samples"
COLUMNS: Final = "columns"
CLASSES: Final = "classes"
NON_FINITE: Final = "non-finite values in x"


def validate(params: Validate, files: Files) -> dict[str, float]:
    """Check the data set; write what was checked, and Data Docs on success and failure alike.

    Exact duplicates are counted, not refused: split keeps them together.

    Returns:
        Counts: expectations, duplicates (rows beyond the first of equal content), contradictions (rows whose content
        also occurs under another label).

    Raises:
        ValueError: an expectation fails: one line with each of them, its column, count and examples; or a rule in
            params names what does not exist.
    """
    data = load_dataset(files.reads["data"])
    rules = [*_always(params), *_asked(params)]
    failures = check_rules(_tables(data), rules, files.writes["docs"])
    if failures:
        raise ValueError(
            f"validate: {len(failures)} of {len(rules)} expectations failed: {' | '.join(failures)}"
            f" | all of it: {files.writes['docs'] / 'index.html'}"
        )
    metrics = {"expectations": len(rules), **_duplicates(data)}
    content = {
        "data_sha256": data.card.sha256,
        "samples": data.card.samples,
        **metrics,
        "rules": [{"table": rule.table, "type": rule.type, "kwargs": dict(rule.kwargs)} for rule in rules],
    }
    files.writes["validation"].write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return dict(metrics)


def _tables(data: Dataset) -> dict[str, pd.DataFrame]:
    """What the rules speak of: one row per sample, per input column (or image channel) and per class."""
    found, table = scan(data.x), data.table()
    counts = np.bincount(data.y, minlength=len(data.card.classes))
    return {
        SAMPLES: pd.concat([table, pd.DataFrame({NON_FINITE: found.non_finite})], axis="columns"),
        COLUMNS: column_table(found, data.y, table, data.card),
        CLASSES: pd.DataFrame({"class": data.card.classes, "samples": counts}),
    }


def _always(params: Validate) -> list[Rule]:
    """What no training can do without."""
    rules = [
        Rule(SAMPLES, "ExpectColumnValuesToNotBeNull", {"column": "id"}),
        Rule(SAMPLES, "ExpectColumnValuesToBeUnique", {"column": "id"}),
        _at_most_zero(SAMPLES, NON_FINITE),
        _at_most_zero(COLUMNS, "nan", "fill or drop them"),
        _at_most_zero(COLUMNS, "inf", "mend or drop them; beyond 3.4e38 is infinite"),
        Rule(CLASSES, "ExpectTableRowCountToBeBetween", {"min_value": 2}, "one class leaves nothing to learn"),
        Rule(
            CLASSES,
            "ExpectColumnValuesToBeBetween",
            {"column": "samples", "min_value": params.min_per_class},
            "add samples, drop the class, or lower validate.min_per_class",
        ),
    ]
    if "constant" not in params.allow:
        rules.append(_false("constant", "leave them out, or set validate.allow: [constant]"))
    if "identifier" not in params.allow:
        advice = "leave it out of the data, number the rows after shuffling, or set validate.allow: [identifier]"
        rules.append(_false("tells_label", f"an identifier that gives the class away; {advice}"))
    return rules


def _asked(params: Validate) -> list[Rule]:
    """The rules of params.yaml, under their Great Expectations names."""
    rules = [_rule("not_null", "ExpectColumnValuesToNotBeNull", column) for column in params.not_null]
    rules += [_rule("unique", "ExpectColumnValuesToBeUnique", column) for column in params.unique]
    rules += [
        _rule("types", "ExpectColumnValuesToBeOfType", column, type_=kind) for column, kind in params.types.items()
    ]
    for column, limits in params.ranges.items():
        given = {"min_value": limits.min, "max_value": limits.max}
        if limits.min is None and limits.max is None:
            raise ValueError(f"validate.ranges.{column} is empty; give min, max or both")
        known = {name: value for name, value in given.items() if value is not None}
        rules.append(_rule("ranges", "ExpectColumnValuesToBeBetween", column, **known))
    if params.classes is not None:
        names: list[JsonValue] = list(params.classes)
        rules.append(_rule("classes", "ExpectColumnValuesToBeInSet", "label", value_set=names))
        rules.append(_rule("classes", "ExpectColumnDistinctValuesToContainSet", "label", value_set=names))
    own = [Rule(SAMPLES, rule.type, rule.kwargs, field="validate.expectations") for rule in params.expectations]
    return rules + own


def _rule(field: str, kind: str, column: str, **kwargs: JsonValue) -> Rule:
    return Rule(SAMPLES, kind, {"column": column, **kwargs}, field=f"validate.{field}")


def _at_most_zero(table: str, column: str, advice: str = "") -> Rule:
    return Rule(table, "ExpectColumnValuesToBeBetween", {"column": column, "max_value": 0}, advice)


def _false(column: str, advice: str) -> Rule:
    return Rule(COLUMNS, "ExpectColumnValuesToBeInSet", {"column": column, "value_set": [False]}, advice)


def _duplicates(data: Dataset) -> dict[str, int]:
    table = data.table(["sha1", "label"])
    labels = table.groupby("sha1")["label"].transform("nunique")
    return {"duplicates": len(table) - table["sha1"].nunique(), "contradictions": int((labels > 1).sum())}
