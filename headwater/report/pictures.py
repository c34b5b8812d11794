"""Facts -> inline SVG: pure functions, coloured by the page's CSS variables, so that one picture is light and dark.

Every text goes through `Markup.format`, which escapes it: labels come from strangers.
"""

from collections.abc import Iterable, Sequence
from math import floor, log10

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from classifiers.curve import LearningCurve
from classifiers.measures import Bin
from headwater.report.facts import Map, Scatter

LABELLED_CLASSES = 30  # a matrix of more is drawn without names and counts
COLOURED_CLASSES = 10  # a map of more tells right from wrong instead
LABEL_CHARACTERS = 18
SHADE = Markup(' style="fill: color-mix(in srgb, var(--c1) {}%, var(--c0))"')  # of a number: from the least to the most

_TEXT = Markup('<text x="{:.1f}" y="{:.1f}" class="{}">{}</text>')
_LINE = Markup('<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" class="{}"/>')


def short(label: str, most: int = LABEL_CHARACTERS) -> str:
    """Return a label, or its beginning and end where it is long."""
    return label if len(label) <= most else f"{label[: most - 7]}…{label[-6:]}"


def interval(value: float, low: float, high: float) -> Markup:
    """Draw a share and its interval on a line from 0 to 1."""

    def along(share: float) -> float:
        return 5 + 190 * min(1.0, max(0.0, share))

    marks = [
        Markup('<rect x="0" y="4" width="200" height="2" rx="1" class="rail"/>'),
        Markup('<rect x="{:.1f}" y="2" width="{:.1f}" height="6" rx="3" class="span"/>').format(
            along(low), max(2.0, along(high) - along(low))
        ),
        Markup('<circle cx="{:.1f}" cy="5" r="4.5" class="knob"/>').format(along(value)),
    ]
    return _svg(200, 10, marks, "interval", f"{value:.3f}, between {low:.3f} and {high:.3f}")


def confusion(matrix: NDArray[np.int64], classes: Sequence[str]) -> Markup:
    """Draw a confusion matrix (n, n), rows of true classes; a cell's strength is its share of its row."""
    n, named = len(classes), len(classes) <= LABELLED_CLASSES
    cell = min(44.0, 620 / n)
    left, top = (
        (10.0 + 6.6 * max(len(short(one)) for one in classes), 26.0 + 5.2 * max(map(_length, classes)))
        if (named)
        else (24.0, 24.0)
    )
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    size = n * cell
    marks = [
        Markup('<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" class="ground"/>').format(
            left, top, size, size
        )
    ]
    for row, column in np.argwhere(matrix > 0).tolist():
        marks += _cell(row, column, int(matrix[row, column]), float(shares[row, column]), cell, left, top, classes)
    if named:
        marks += [
            _TEXT.format(left - 8, top + (i + 0.5) * cell + 4, "label end", short(one)) for i, one in enumerate(classes)
        ]
        marks += [
            Markup('<text transform="translate({:.1f} {:.1f}) rotate(-50)" class="label">{}</text>').format(
                left + (i + 0.5) * cell + 4, top - 8, short(one)
            )
            for i, one in enumerate(classes)
        ]
    else:
        marks += [
            _TEXT.format(left, top - 8, "axis", "predicted →"),
            Markup('<text transform="translate({:.1f} {:.1f}) rotate(90)" class="axis">true →</text>').format(8, top),
        ]
    right = 5.0 * max(map(_length, classes)) if named else 4.0
    return _svg(left + size + right, top + size + 4, marks, "matrix", f"Confusion matrix of {n} classes")


def reliability(bins: Iterable[Bin]) -> Markup:
    """Draw how often predictions of like confidence are right, over how many there are."""
    found = list(bins)
    left, top, side, below = 44.0, 12.0, 320.0, 54.0
    total, most = sum(one.n for one in found), max(one.n for one in found)
    marks = [*_grid(left, top, side, side, [i / 5 for i in range(6)])]
    for one in found:
        x, width = left + side * one.low, side * (one.high - one.low) - 2
        predictions = "prediction" if one.n == 1 else "predictions"
        said = f"{one.n} {predictions}, {one.confidence:.0%} sure on average, {one.accuracy:.0%} right"
        most_right = max(one.accuracy, one.confidence)
        gap = "surplus" if one.accuracy > one.confidence else "gap"
        floor_y = top + side + below + 34
        marks += [
            _bar(x + 1, top + side, width, side * min(one.accuracy, one.confidence), "blue", said),
            _bar(
                x + 1,
                top + side * (1 - min(one.accuracy, one.confidence)),
                width,
                side * (most_right - min(one.accuracy, one.confidence)),
                gap,
                said,
            ),
            _bar(x + 1, floor_y, width, max(34 * one.n / most, 1), "quiet", said),
        ]
    marks += [
        _LINE.format(left, top + side, left + side, top, "ideal"),
        *(_TEXT.format(left + side * i / 5, top + side + 16, "tick middle", f"{i * 20}") for i in range(6)),
        _TEXT.format(left + side / 2, top + side + 34, "axis middle", "confidence, %"),
        _LINE.format(left, top + side + below + 34, left + side, top + side + below + 34, "line"),
        _TEXT.format(left, top + side + below + 50, "axis", f"how many of {total:,} are so sure"),
    ]
    return _svg(left + side + 12, top + side + below + 58, marks, "reliability", "Reliability diagram")


def curve(found: LearningCurve) -> Markup:
    """Draw accuracy by examples a class, on a logarithmic scale, with the least and the most of the draws."""
    left, top, width, height = 44.0, 14.0, 900.0, 300.0
    least = min(one.low for one in found.points)
    step = next(step for step in (0.05, 0.1, 0.2) if step == 0.2 or 1 - least <= 5 * step)
    lowest = min(step * floor(least / step), 1 - 2 * step)
    steps = np.log([one.shots for one in found.points])
    span = float(np.ptp(steps)) or 1.0
    xs = [left + 14 + (width - 28) * (float(step - steps[0]) / span if len(steps) > 1 else 0.5) for step in steps]

    def up(share: float) -> float:
        return top + height * (1 - (share - lowest) / (1 - lowest))

    points = found.points
    band = [(x, up(one.high)) for x, one in zip(xs, points, strict=True)]
    band += [(x, up(one.low)) for x, one in reversed(list(zip(xs, points, strict=True)))]
    ticks = np.arange(1.0, lowest - step / 2, -step).tolist()
    marks = [
        *_grid(left, top, width, height, ticks, lowest),
        Markup('<polygon points="{}" class="band"/>').format(_points(band)),
        Markup('<polyline points="{}" class="trend"/>').format(
            _points((x, up(one.mean)) for x, one in zip(xs, points, strict=True))
        ),
    ]
    for x, one in zip(xs, points, strict=True):
        said = (
            f"{one.shots} a class ({one.n_train:,} in all): {one.mean:.1%}, draws from {one.low:.1%} to {one.high:.1%}"
        )
        marks.append(
            Markup('<circle cx="{:.1f}" cy="{:.1f}" r="5" class="point"><title>{}</title></circle>').format(
                x, up(one.mean), said
            )
        )
        marks.append(_TEXT.format(x, top + height + 18, "tick middle", f"{one.shots:,}"))
    marks.append(_TEXT.format(left + width / 2, top + height + 38, "axis middle", "examples a class"))
    marks.append(_TEXT.format(left + 4, top + 14, "axis", "accuracy, %"))
    return _svg(left + width + 12, top + height + 46, marks, "curve", "Learning curve")


def map_of(found: Map, classes: Sequence[str]) -> Markup:
    """Draw embeddings on a plane: a colour a class where there are few, otherwise right and wrong."""
    half, margin = 360.0, 10.0
    tall = max((abs(dot.y) for dot in found.dots), default=1.0)  # the longer extent is 1, the other one less
    wide = max((abs(dot.x) for dot in found.dots), default=1.0)
    scale = half / max(wide, tall, 1e-9)
    height, width = max(scale * tall, 40.0), max(scale * wide, 40.0)
    place = {label: i for i, label in enumerate(classes)}
    few = 0 < len(classes) <= COLOURED_CLASSES
    marks = []
    for i, dot in sorted(enumerate(found.dots), key=lambda one: not one[1].right):
        colour = f"c{place[dot.label]}" if few and dot.label in place else ("c0" if dot.right else "c1")
        shade = "" if dot.shade is None else SHADE.format(round(100 * dot.shade))
        said = f"{dot.item.name}: {dot.label}" + ("" if dot.right else f", predicted {dot.predicted}")
        marks.append(
            Markup(
                '<circle cx="{:.1f}" cy="{:.1f}" r="{}" class="dot {}{}" data-i="{}"{}><title>{}</title></circle>'
            ).format(
                margin + width + scale * dot.x,
                margin + height - scale * dot.y,
                4.8 if few and not dot.right else 4.2,
                colour,
                " wrong" if few and not dot.right else "",
                i,
                shade,
                said,
            )
        )
    return _svg(2 * (width + margin), 2 * (height + margin), marks, "map", "Map of the embeddings")


def scatter(found: Scatter) -> Markup:
    """Draw predicted numbers against true ones, with the line where they would be the same."""
    left, top, side = 64.0, 12.0, 400.0
    both = np.concatenate([found.true, found.predicted])
    low, high = float(both.min()), float(both.max())
    span = (high - low) or 1.0

    def share(value: float) -> float:
        return (value - low) / span

    ticks = [low + span * i / 4 for i in range(5)]
    marks = [Markup('<rect x="{}" y="{}" width="{}" height="{}" class="ground"/>').format(left, top, side, side)]
    for tick in ticks:
        y, x = top + side * (1 - share(tick)), left + side * share(tick)
        marks += [
            _LINE.format(left, y, left + side, y, "line"),
            _TEXT.format(left - 8, y + 4, "tick end", _number(tick)),
            _TEXT.format(x, top + side + 18, "tick middle", _number(tick)),
        ]
    marks.append(_LINE.format(left, top + side, left + side, top, "ideal"))
    marks += [
        Markup('<circle cx="{:.1f}" cy="{:.1f}" r="3.4" class="dot c0"><title>{}</title></circle>').format(
            left + side * share(true), top + side * (1 - share(said)), f"true {true:.4g}, predicted {said:.4g}"
        )
        for true, said in zip(found.true.tolist(), found.predicted.tolist(), strict=True)
    ]
    marks += [
        _TEXT.format(left + side / 2, top + side + 38, "axis middle", "true"),
        Markup('<text transform="translate(12 {:.1f}) rotate(-90)" class="axis middle">predicted</text>').format(
            top + side / 2
        ),
    ]
    return _svg(left + side + 24, top + side + 46, marks, "scatter", "Predicted against true values")


def _bar(x: float, bottom: float, width: float, height: float, kind: str, said: str) -> Markup:
    return Markup(
        '<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" class="{}"><title>{}</title></rect>'
    ).format(x, bottom - height, width, height, kind, said)


def _svg(width: float, height: float, marks: Iterable[Markup], kind: str, said: str) -> Markup:
    return Markup(
        '<svg viewBox="0 0 {:.0f} {:.0f}" width="{:.0f}" height="{:.0f}" class="{}" role="img" aria-label="{}">{}</svg>'
    ).format(width, height, width, height, kind, said, Markup("").join(marks))


def _cell(
    row: int, column: int, count: int, share: float, cell: float, left: float, top: float, classes: Sequence[str]
) -> list[Markup]:
    x, y = left + column * cell, top + row * cell
    said = f"{count} of {classes[row]} predicted as {classes[column]} ({share:.0%})"
    gap = 1.0 if cell > 12 else 0.0
    marks = [
        Markup(
            '<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" class="{}" fill-opacity="{:.2f}">'
            "<title>{}</title></rect>"
        ).format(x, y, cell - gap, cell - gap, "hit" if row == column else "miss", 0.12 + 0.88 * share**0.6, said)
    ]
    if cell >= 20:
        strong = "count strong" if 0.12 + 0.88 * share**0.6 > 0.55 else "count"
        size = Markup('<text x="{:.1f}" y="{:.1f}" class="{}" font-size="{:.0f}">{}</text>')
        marks.append(size.format(x + cell / 2, y + cell / 2 + 4, strong, min(13.0, cell / 2.2), count))
    return marks


def _grid(
    left: float, top: float, width: float, height: float, ticks: Iterable[float], lowest: float = 0.0
) -> Iterable[Markup]:
    for tick in ticks:
        y = top + height * (1 - (tick - lowest) / (1 - lowest))
        yield _LINE.format(left, y, left + width, y, "line")
        yield _TEXT.format(left - 8, y + 4, "tick end", f"{100 * tick:.0f}")


def _points(points: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _length(label: str) -> int:
    return len(short(label))


def _number(value: float) -> str:
    digits = 0 if value == 0 else max(0, 2 - floor(log10(abs(value))))
    return f"{value:.{min(digits, 3)}f}" if digits <= 4 and abs(value) < 1e6 else f"{value:.2g}"
