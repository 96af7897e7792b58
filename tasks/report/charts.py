"""Charts as positions on a page; chart.html draws them. Every string stays data, escaped by the template."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from tasks.report.scale import Scale
from tasks.report.variants import pareto_front
from tasks.report.wording import percent

WIDTH: Final = 440
LEFT, RIGHT, TOP, BOTTOM = 62, 424, 14, 46  # BOTTOM is measured from the lower edge
LETTER: Final = 8.5  # widest letter in pixels, for keeping labels apart
MOST_POINTS: Final = 60  # per line: what one can still tell apart under the pointer

Ticks = Sequence[tuple[float, str]]
Curve = tuple[str, int | None, Sequence[tuple[float, float]]]  # name, series (None: grey), (x, y) in order


@dataclass(frozen=True)
class Stroke:
    """An SVG path; kind is a CSS class: line, front, limit, even, whisker, rise or fall."""

    path: str
    kind: str
    series: int | None = None


@dataclass(frozen=True)
class Mark:
    """A symbol with what the pointer reveals; a faint one shows only then."""

    x: float
    y: float
    series: int | None
    tip: str
    faint: bool = False
    hollow: bool = False


@dataclass(frozen=True)
class Cloud:
    """Many small dots of one series: (x, y, what the pointer reveals)."""

    series: int | None
    dots: Sequence[tuple[float, float, str]]


@dataclass(frozen=True)
class Label:
    """Text inside the frame."""

    x: float
    y: float
    text: str
    anchor: str = "start"
    series: int | None = None


@dataclass(frozen=True)
class Key:
    """One entry of the legend; a dot stands for a cloud."""

    name: str
    series: int | None
    hollow: bool = False
    dot: bool = False


@dataclass(frozen=True)
class Chart:
    """A framed picture of strokes, clouds, marks and labels between two axes; the title says what y is."""

    title: str
    note: str
    x_title: str
    x_ticks: Ticks
    y_ticks: Ticks
    height: float = 300
    left: float = LEFT
    strokes: Sequence[Stroke] = ()
    clouds: Sequence[Cloud] = ()
    marks: Sequence[Mark] = ()
    labels: Sequence[Label] = ()
    legend: Sequence[Key] = ()
    grid: Literal["rows", "columns"] = "rows"
    width: float = WIDTH
    right: float = RIGHT
    top: float = TOP

    @property
    def bottom(self) -> float:
        """The y of the x axis."""
        return self.height - BOTTOM


@dataclass(frozen=True)
class Candidate:
    """A variant in the plane of cost and accuracy. floor: the accuracy its upper limit of the drop still allows."""

    name: str
    series: int
    cost: float
    accuracy: float
    floor: float | None
    tip: str


def trade_off(
    candidates: Sequence[Candidate], limit: float | None, title: str, x_title: str, cost: Callable[[float], str]
) -> Chart:
    """Accuracy against a cost on a log axis, with the Pareto front and the lowest accuracy allowed."""
    floors = [c.floor for c in candidates if c.floor is not None] + ([limit] if limit is not None else [])
    x = Scale.around([c.cost for c in candidates], LEFT, RIGHT, log=True)
    y = Scale.around([c.accuracy for c in candidates] + floors, 300 - BOTTOM, TOP)
    at = [(x(c.cost), y(c.accuracy)) for c in candidates]
    front = [at[index] for index in pareto_front([(c.cost, c.accuracy) for c in candidates])]
    steps = "M" + " ".join(
        f"{px} {front[0][1]} V{py}" if i == 0 else f"H{px} V{py}" for i, (px, py) in enumerate(front)
    )
    strokes = [Stroke(f"{steps} H{RIGHT}", "front")]
    for candidate, (px, py) in zip(candidates, at, strict=True):
        if candidate.floor is not None:
            strokes.append(Stroke(f"M{px} {py} V{y(candidate.floor)} m-4 0 h8", "whisker", candidate.series))
    labels = _labels([(c.name, c.series) for c in candidates], at)
    note = "Upper left is better. The stepped line is the Pareto front; whiskers reach down to the 95 % limit"
    if limit is not None:
        strokes.insert(0, Stroke(f"M{LEFT} {y(limit)} H{RIGHT}", "limit"))
        note += "; the dashed line is the lowest accuracy allowed"
    return Chart(
        title, f"{note}.", x_title, [(x(t), cost(t)) for t in x.ticks(5)], percent_ticks(y), strokes=strokes,
        marks=[Mark(*place, c.series, c.tip) for place, c in zip(at, candidates, strict=True)], labels=labels,
    )  # fmt: skip


def _labels(names: Sequence[tuple[str, int]], at: Sequence[tuple[float, float]]) -> list[Label]:
    """A name beside each mark, on the first side where it covers no mark, no other name and no edge."""
    taken = [(x - 8, y - 8, x + 8, y + 8) for x, y in at]
    labels = []
    for (name, series), (x, y) in zip(names, at, strict=True):
        wide = len(name) * LETTER
        sides = [(x + 12, y + 4, "start"), (x - 12, y + 4, "end"), (x, y - 13, "middle"), (x, y + 22, "middle")]
        sides += [
            (x + 10, y - 12, "start"),
            (x - 10, y - 12, "end"),
            (x + 10, y + 20, "start"),
            (x - 10, y + 20, "end"),
        ]
        boxes = []
        for left, base, anchor in sides:
            start = left - wide * {"start": 0.0, "middle": 0.5, "end": 1.0}[anchor]
            boxes.append((start, base - 12, start + wide, base + 3))
        free = [i for i, box in enumerate(boxes) if _inside(box) and not any(_overlap(box, other) for other in taken)]
        best = free[0] if free else 0
        taken.append(boxes[best])
        labels.append(Label(*sides[best][:2], name, sides[best][2], series))
    return labels


def _inside(box: tuple[float, float, float, float]) -> bool:
    return box[0] >= LEFT and box[2] <= WIDTH and box[1] >= 0 and box[3] <= 300 - BOTTOM


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def lines(
    curves: Sequence[Curve],
    titles: tuple[str, str, str],
    y_name: str,
    x_text: Callable[[float], str],
    *,
    log: bool = False,
) -> Chart:
    """Curves over a common x. titles: of the chart, its note, its x axis; log: of y, else in percent."""
    places = sorted({px for _, _, curve in curves for px, _ in curve})
    x = Scale.around(places, LEFT, RIGHT)
    y = Scale.around([py for _, _, curve in curves for _, py in curve], 300 - BOTTOM, TOP, log=log)
    text: Callable[[float], str] = (lambda value: f"{value:.3g}") if log else percent
    strokes, marks = [], []
    for name, series, curve in reversed(curves):  # what comes first ends up on top
        strokes.append(Stroke("M" + " L".join(f"{x(px)} {y(py)}" for px, py in curve), "line", series))
        shown = curve[:: math.ceil(len(curve) / MOST_POINTS)]
        few = len(curve) <= 5
        for px, py in dict.fromkeys([*shown, curve[-1]]):
            tip = f"{name}\n{titles[2]} {x_text(px)}\n{y_name} {text(py)}"
            marks.append(Mark(x(px), y(py), series, tip, faint=not few and (px, py) != curve[-1]))
    legend = dict.fromkeys(Key(name if series is not None else "others", series) for name, series, _ in curves)
    return Chart(
        *titles, [(x(t), x_text(t)) for t in (places if len(places) <= 6 else x.ticks())],
        [(y(t), text(t)) for t in y.ticks()] if log else percent_ticks(y),
        strokes=strokes, marks=marks, legend=tuple(legend),
    )  # fmt: skip


def percent_ticks(scale: Scale) -> list[tuple[float, str]]:
    """Ticks of an axis of shares, none above 100 %."""
    ticks = [tick for tick in scale.ticks(5) if 0 <= tick <= 1 + 1e-9]
    decimals = next((d for d in (0, 1) if all(abs(t * 100 - round(t * 100, d)) < 1e-6 for t in ticks)), 2)
    return [(scale(tick), percent(tick, decimals)) for tick in ticks]


def clipped(text: str, most: int = 22) -> str:
    """The text, cut to fit beside an axis."""
    return text if len(text) <= most else f"{text[: most - 1]}…"
