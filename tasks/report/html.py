"""The report of a run: one HTML page that needs nothing but itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from typing import Any, Final

from jinja2 import Environment, FunctionLoader, StrictUndefined

from tasks.report import wording
from tasks.report.before_after import accuracy_by_slice, recall_by_class
from tasks.report.calibration import reliability_chart, temperature_note
from tasks.report.charts import Candidate, Chart, Curve, lines, trade_off
from tasks.report.coreset import coreset_section
from tasks.report.devices import devices_section
from tasks.report.distillation import distillation
from tasks.report.elsewhere import elsewhere_section
from tasks.report.exemplars import exemplar_section
from tasks.report.matrix import Matrix, difference, matrix
from tasks.report.pruning import diary_table, sensitivity_chart, speed_note
from tasks.report.quality import quality_section
from tasks.report.quantization import quantization_section
from tasks.report.variants import SERIES, chosen, consecutive
from tasks.report.wording import byte_size, check_figure, check_name, percent, points, short, significant, times

Variant = Mapping[str, Any]
MOST_CLASSES: Final = 30  # in charts and matrices; with more, those whose recall changed most
OPTIONAL: Final = {"eager_teacher": None, "smallest_detectable_drop": None}
SHAPES: Final = (  # as SERIES in variants.py: circle, square, diamond, triangle up and down, plus
    "M-6 0a6 6 0 1 0 12 0a6 6 0 1 0-12 0z",
    "M-5.5-5.5h11v11h-11z",
    "M0-7.5L7.5 0 0 7.5-7.5 0z",
    "M0-7L7 5.5H-7z",
    "M0 7L7-5.5H-7z",
    "M-2.5-7h5v4.5H7v5H2.5V7h-5V2.5H-7v-5h4.5z",
)


def render_report(summary: Mapping[str, Any], details: Mapping[str, Any]) -> str:
    """One self-contained page: verdict, variants, charts, errors by class, training, data, how to reproduce.

    The same arguments give the same page. A section whose data `details` or `summary` lack is left out. All strings
    are escaped, so class and layer names may hold anything.

    Raises:
        ValueError: the summary names a reference or final variant that is not among its variants.
    """
    reference, final = chosen(summary, "reference"), chosen(summary, "final")
    series = {variant["name"]: index for index, variant in enumerate(summary["variants"])}
    matrices, recall = _errors(summary, details, series)
    ends = ((reference["name"], series[reference["name"]]), (final["name"], series[final["name"]]))
    page: str = _environment().get_template("page.html").render(
        summary={**OPTIONAL, **summary},
        reference=reference,
        final=final,
        series=series,
        trade_offs=_trade_offs(summary, reference, final, series),
        matrices=matrices,
        recall=recall,
        by_slice=accuracy_by_slice(summary, ends),
        quality=quality_section(summary),
        reliability=reliability_chart(details.get("reliability") or {}, ends),
        temperature=temperature_note(summary, details.get("quantization") or {}),
        elsewhere=elsewhere_section(summary, ends),
        exemplars=exemplar_section(details.get("exemplars") or {}, [str(n) for n in details.get("classes") or ()]),
        lineage=[(_words(one["name"]), _words(one["made_from"]), one) for one in summary.get("lineage", ())],
        shown_classes=MOST_CLASSES if len(details.get("classes") or ()) > MOST_CLASSES else None,
        coreset=coreset_section(details.get("coreset") or {}),
        distillation=distillation(summary, details.get("distillation") or {}),
        training=_training(details.get("histories") or {}, series),
        sensitivity=sensitivity_chart(details.get("sensitivity") or ()),
        diary=diary_table(details.get("diary") or ()),
        speed_note=speed_note(details.get("diary") or ()),
        quantization=quantization_section(details.get("quantization") or {}),
        devices=devices_section(summary),
        data_name=(summary.get("data") or {}).get("name"),
        data_facts=_data_facts(summary, details),
        environment=_facts({"seed": summary.get("seed"), **(summary.get("environment") or {})}),
    )  # fmt: skip
    return page


def _environment() -> Environment:
    """Templates lie beside this file; what they call is named here."""
    folder = files("tasks.report")
    environment = Environment(
        loader=FunctionLoader(lambda name: folder.joinpath(name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    formats = (byte_size, check_figure, percent, points, short, significant, times)
    environment.globals.update({function.__name__: _typeset(function) for function in formats})
    environment.globals.update(colours=SERIES, shape=_shape, series_class=_series_class, dash=wording.DASH)
    environment.filters["check_name"] = check_name
    environment.filters["words"] = lambda name: str(name).replace("_", " ")
    return environment


def _words(text: str) -> str:
    return text.replace("_", " ")


def _typeset(function: Callable[..., str]) -> Callable[..., str]:
    """The same figure with a real minus sign and spaces that do not break."""
    return lambda *args, **kwargs: function(*args, **kwargs).replace("-", wording.MINUS).replace(" ", "\u00a0")


def _shape(series: int | None) -> str:
    return SHAPES[0 if series is None else series % len(SHAPES)]


def _series_class(series: int | None) -> str:
    return "other" if series is None else f"s{series % len(SERIES)}"


def _trade_offs(
    summary: Mapping[str, Any], reference: Variant, final: Variant, series: Mapping[str, int]
) -> list[Chart]:
    """Accuracy against bytes and against latency, for what was measured of each."""
    allowed = [c["limit"] for c in final["checks"] if "accuracy_drop" in c["name"] and c["limit"] is not None]
    limit = reference["accuracy"] - allowed[0] if allowed else None

    def chart(key: str, title: str, x_title: str, cost: Callable[[float], str]) -> Chart | None:
        candidates = [
            Candidate(
                variant["name"],
                series[variant["name"]],
                variant[key],
                variant["accuracy"],
                _floor(variant, reference),
                _variant_tip(variant),
            )
            for variant in summary["variants"]
            if variant[key]
        ]
        return trade_off(candidates, limit, title, x_title, cost) if candidates else None

    charts = (
        chart("size_bytes", "Accuracy against size", "size of the file (log)", _byte_tick),
        chart("latency_ms_p50", "Accuracy against latency", "latency p50 in ms (log)", lambda ms: f"{ms:g}"),
    )
    return [made for made in charts if made]


def _byte_tick(size: float) -> str:
    value, unit = next(((size / s, u) for s, u in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")) if size >= s), (size, "B"))
    return f"{value:g} {unit}"


def _floor(variant: Variant, reference: Variant) -> float | None:
    upper = variant["accuracy_drop_upper95"]
    return None if variant is reference or upper is None else float(reference["accuracy"] - upper)


def _variant_tip(variant: Variant) -> str:
    return (
        f"{variant['name'].replace('_', ' ')}\naccuracy {percent(variant['accuracy'])}\n"
        f"size {byte_size(variant['size_bytes'])}\nlatency p50 {significant(variant['latency_ms_p50'])} ms\n"
        f"parameters {short(variant['parameters'])}\nMACs {short(variant['macs'])}"
    )


def _errors(
    summary: Mapping[str, Any], details: Mapping[str, Any], series: Mapping[str, int]
) -> tuple[list[Matrix], Chart | None]:
    """Confusion of the reference, of the final model and what changed; recall of both by class."""
    names, found = [str(name) for name in details.get("classes") or ()], details.get("per_variant") or {}
    roles = [name for name in (summary["reference"], summary["final"]) if name in found]
    if not names or not roles:
        return [], None
    recalls = [found[name]["recall"] for name in roles]
    by_change = sorted(range(len(names)), key=lambda i: -abs(recalls[0][i] - recalls[-1][i]))
    kept = sorted(by_change[:MOST_CLASSES])
    labels = [names[i] for i in kept]
    confusions = [[[found[name]["confusion"][i][j] for j in kept] for i in kept] for name in roles]
    matrices = [matrix(f"Confusion: {name}", labels, counts) for name, counts in zip(roles, confusions, strict=True)]
    if len(set(roles)) < 2:
        return matrices[:1], None
    before, after = (
        {key: [found[name][key][i] for i in kept] for key in ("recall", "support") if key in found[name]}
        for name in roles
    )
    ends = ((roles[0], series[roles[0]]), (roles[1], series[roles[1]]))
    return [*matrices, difference(labels, *confusions)], recall_by_class(labels, before, after, ends)


def _training(histories: Mapping[str, Sequence[Mapping[str, Any]]], series: Mapping[str, int]) -> list[Chart]:
    """Validation accuracy and loss by epoch, for each training that kept them."""

    def curves(key: str, above: float) -> list[Curve]:
        found = (
            (
                name,
                series.get(name),
                [(row["epoch"], row[key]) for row in consecutive(rows) if above < row.get(key, math.nan) < math.inf],
            )
            for name, rows in histories.items()
        )
        return [curve for curve in found if curve[2]]

    charts = []
    if accuracy := curves("validation_accuracy", -1.0):
        titles = ("Validation accuracy by epoch", "On the validation split, never on the test split.", "epoch")
        charts.append(lines(accuracy, titles, "validation accuracy", _whole))
    if loss := curves("loss", 0.0):
        titles = ("Training loss by epoch", "Log scale. Levels compare only between equal losses.", "epoch")
        charts.append(lines(loss, titles, "loss", _whole, log=True))
    return charts


def _whole(value: float) -> str:
    return f"{value:g}"


def _data_facts(summary: Mapping[str, Any], details: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the data set was and what was chosen of it."""
    data, coreset = summary.get("data") or {}, details.get("coreset") or {}
    plain = {key: value for key, value in data.items() if key != "coreset" or "samples" not in coreset}
    return _facts(plain) + [(f"coreset {name}", text) for name, text in _facts(coreset)]


def _facts(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(name, text) of every plain value."""
    texts: dict[type, Callable[[Any], str]] = {
        str: str,
        bool: str,
        int: "{:,}".format,
        float: lambda x: significant(x, 4),
    }
    return [(key.replace("_", " "), texts[type(value)](value)) for key, value in found.items() if type(value) in texts]
