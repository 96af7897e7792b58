"""A version's model card in Markdown: what it was made from, what it is for, how good it is, and how to make it again.

After Mitchell et al. 2019, Model Cards for Model Reporting, arXiv:1810.03993.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from tasks.adapters.registry import SHA256, Version
from tasks.data.dataset import Card
from tasks.params import Register
from tasks.report.variants import chosen
from tasks.report.wording import DASH, byte_size, check_figure, percent, points, short, significant

CLASSES_SHOWN: Final = 20
FIGURES: Final[Mapping[str, tuple[str, Callable[[Any], str]]]] = {
    "accuracy": ("accuracy", percent),
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
        ],
        "## Data": _data(summary["data"], data),
        "## Figures on the test split": _figures(variant, chosen(summary, "reference")),
        "## Budget": _budget(variant),
        "## Limits": _limits(summary, params),
        "## How to make it again": _origin(version),
    }
    return "\n".join(f"{title}\n\n" + "\n".join(lines) + "\n" for title, lines in sections.items())


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
    rows = [
        (check["name"], check_figure(check["name"], check["value"]), check_figure(check["name"], check["limit"]))
        for check in variant["checks"]
    ]
    verdicts = [check["verdict"] for check in variant["checks"]]
    return _table(("check", "figure", "limit", "verdict"), [(*row, v) for row, v in zip(rows, verdicts, strict=True)])


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
