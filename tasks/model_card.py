"""A version's model card in Markdown: what it was made from, what it is for, how good it is, and how to make it again.

After Mitchell et al. 2019, Model Cards for Model Reporting, arXiv:1810.03993.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from tasks.adapters.registry import DEVICES, SHA256, Version
from tasks.data.dataset import Card
from tasks.params import Register
from tasks.report.variants import chosen
from tasks.report.wording import DASH, byte_size, check_figure, percent, points, short, significant

CLASSES_SHOWN: Final = 20
USE: Final = "\n## Use\n"  # what follows the promotion, which stands above so that no description cuts it off
PROMOTION: Final = "\n## Promotion\n\n"
FIGURES: Final[Mapping[str, tuple[str, Callable[[Any], str]]]] = {
    "accuracy": ("accuracy", percent),
    "corruption_accuracy": ("accuracy under corruptions", percent),
    "f1_macro": ("F1, mean of the classes", percent),
    "ece": ("expected calibration error", lambda value: significant(value)),
    "size_bytes": ("model.onnx", byte_size),
    "latency_ms_p50": ("latency p50, batch 1, one thread", lambda value: f"{significant(value)} ms"),
    "macs": ("multiply-accumulates", short),
    "parameters": ("parameters", short),
}


def model_card(name: str, version: Version, summary: Mapping[str, Any], data: Card, params: Register) -> str:
    """The card of a version of the model `name`; summary: of the evaluation that judged it."""
    variant = next(row for row in summary["variants"] if row["name"] == version.tags["variant"])
    sections = {
        f"# {name}, version {version.number}": [
            f"{variant['name']}, gate: **{variant['gate']}**. {summary['verdict']}"
        ],
        "## Use": [
            params.intended_use or "Not stated: `register.intended_use` in params.yaml.",
            f"Takes raw rows as `x`, float32 (batch, {', '.join(map(str, data.input_shape))}), and returns `logits`.",
            "Loaded by MLflow, it serves as was fastest on a device, the first unless `model_config` names another: "
            f"{version.tags.get(DEVICES, DASH)}.",
        ],
        "## Data": _data(summary["data"], data),
        "## Figures on the test split": _figures(variant, chosen(summary, "reference")),
        "## Budget": _budget(variant),
        "## Limits": _limits(summary, params),
        "## How to make it again": _origin(version),
    }
    return "\n".join(f"{title}\n\n" + "\n".join(lines) + "\n" for title, lines in sections.items())


def with_promotion(card: str, entry: Mapping[str, Any]) -> str:
    """The card with the last move that made the version champion: an audit entry, with what it was judged by."""
    top, use, rest = card.partition(USE)
    found = entry["figures"].get("against_champion")
    replaced = f"in place of version {entry['replaced']}" if entry["replaced"] else "as the first"
    lines = [f"{entry['action']}: champion since {entry['when']} {replaced}, by {entry['who']}: {entry['why']}"]
    if found:
        lines += ["", f"On the same {found['samples']:,} test samples, both files measured in turns:", ""]
        lines += _table(("", "this", f"version {entry['replaced']}"), _both(found))
        lines += ["", *_table(("check", "figure", "limit", "verdict"), _checks(found["checks"]))]
    return f"{top.partition(PROMOTION)[0]}{PROMOTION}" + "\n".join(lines) + f"\n{use}{rest}"


def _both(found: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """What is known of both files."""
    return [
        (title, shown(found[key]), shown(found[f"reference_{key}"]))
        for key, (title, shown) in FIGURES.items()
        if found.get(key) is not None
    ]


def _checks(checks: Mapping[str, Sequence[Any]]) -> list[tuple[str, str, str, str]]:
    return [
        (name, check_figure(name, value), check_figure(name, limit), verdict)
        for name, (value, limit, verdict) in checks.items()
    ]


def _data(counts: Mapping[str, Any], data: Card) -> list[str]:
    named = ", ".join(data.classes[:CLASSES_SHOWN]) + ", ..." * (len(data.classes) > CLASSES_SHOWN)
    return [
        f"- {data.name}: {data.samples:,} samples ({data.kind}), sha256 `{data.sha256}`",
        f"- {len(data.classes)} classes: {named}",
        f"- train {counts['train']:,} (of them coreset {counts['coreset']:,}), validation {counts['validation']:,}, "
        f"test {counts['test']:,}",
    ]


def _figures(variant: Mapping[str, Any], reference: Mapping[str, Any]) -> list[str]:
    rows = [(title, shown(variant.get(key)), shown(reference.get(key))) for key, (title, shown) in FIGURES.items()]
    lines = _table(("", str(variant["name"]), str(reference["name"])), rows)
    if variant is reference:
        return lines
    worst = [
        f"- accuracy drop {points(variant['accuracy_drop'])} pp, at most "
        f"{points(variant['accuracy_drop_upper95'])} pp with 95 % confidence",
        f"- worst class: {variant['worst_class']}, recall down {points(variant['worst_class_recall_drop'])} pp",
    ]
    if slices := variant["slices"]:
        lost = max(slices, key=lambda one: float(one["drop"]))
        worst.append(f"- worst slice: {lost['name']}, {lost['samples']} samples, down {points(lost['drop'])} pp")
    return [*lines, "", *worst]


def _budget(variant: Mapping[str, Any]) -> list[str]:
    if not variant["checks"]:
        return ["The reference is not judged."]
    checks = {check["name"]: (check["value"], check["limit"], check["verdict"]) for check in variant["checks"]}
    return _table(("check", "figure", "limit", "verdict"), _checks(checks))


def _limits(summary: Mapping[str, Any], params: Register) -> list[str]:
    told = [f"- {params.limits}"] if params.limits else []
    return [
        *told,
        f"- Figures are of the test split alone, {summary['data']['test']:,} samples like the training's; they show no "
        f"drop below {points(summary['smallest_detectable_drop'])} pp.",
        f"- Latency is that of one processor: {summary['environment']['cpu']}.",
        "- Inputs unlike the training data get an answer too, and it need not be a good one.",
    ]


def _origin(version: Version) -> list[str]:
    tags = version.tags
    dirty = ", with changes that were not committed" * (tags.get("git_dirty") == "true")
    return [
        f"`downsize reproduce {version.number}` rebuilds it and compares the bytes.",
        "",
        f"- model.onnx: sha256 `{tags[SHA256]}`",
        f"- commit `{tags.get('git_commit', DASH)}`{dirty}",
        f"- params: sha256 `{tags['params_sha256']}`; dvc.lock: md5 `{tags.get('dvc_lock', DASH)}`",
        f"- made from version {tags.get('parent_version', DASH)}; run `{version.run_id}`",
        f"- {tags['packages']}",
    ]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
