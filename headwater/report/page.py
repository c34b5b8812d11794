"""A Report -> `report.html`, one file that loads nothing from anywhere, and `report.json` beside it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from classifiers.measures import Measured, MultiLabelMeasures, RegressionMeasures, SingleLabelMeasures
from headwater.report import pictures
from headwater.report.facts import Report
from headwater.report.template import rendered, write_page

PAGE, FACTS = "report.html", "report.json"
N_CONFUSED = 12
N_BARE = 12  # suspects without a preview that still get a card

MEASURES = {
    "accuracy": ("Accuracy", "share of predictions that are right"),
    "balanced_accuracy": ("Balanced accuracy", "mean recall over classes, rare ones count as much"),
    "macro_f1": ("Macro F1", "mean over classes of F1"),
    "micro_f1": ("Micro F1", "F1 over all labels together"),
    "subset_accuracy": ("Subset accuracy", "share of examples with every label right"),
    "ranking_precision": ("Ranking precision", "how far true labels stand before others"),
    "log_loss": ("Log-loss", "in nats; smaller is better"),
    "ece": ("Calibration error", "ECE of 15 bins; smaller is better"),
    "r2": ("R²", "share of variance explained"),
    "mae": ("Mean absolute error", "in the target's unit"),
    "rmse": ("Root mean squared error", "in the target's unit"),
}
UNBOUNDED = ("log_loss", "mae", "rmse", "r2")


def write_report(folder: Path, report: Report) -> Path:
    """Write both files, each under a temporary name first, and return the page's path.

    Raises
    ------
    OSError
        The folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    facts = json.dumps(report.as_json(), indent=1, ensure_ascii=False, allow_nan=False)
    write_page(folder / FACTS, facts)
    write_page(folder / PAGE, render(report))
    return folder / PAGE


def render(report: Report) -> str:
    """Return the page."""
    filters: dict[str, Callable[..., Any]] = {"percent": _percent, "decimal": _decimal, "short": pictures.short}
    return rendered(
        "report.html.j2",
        "hover.js",
        filters,
        report=report,
        measures=_tiles(report),
        per_class=_per_class(report),
        confused=_confused(report),
        pictures=_pictures(report),
        dots=_dots(report),
        shown_suspects=[one for one in report.suspects if one.item.text or one.item.image] or report.suspects[:N_BARE],
        previews=_previewed(report),
    )


def _tiles(report: Report) -> list[dict[str, Any]]:
    """Return what the headline shows of each measure."""
    found = {name: getattr(report.measures, name, None) for name in MEASURES}
    return [
        {
            "name": MEASURES[name][0],
            "means": MEASURES[name][1],
            "measured": one,
            "share": name not in UNBOUNDED,
            "picture": None if name in UNBOUNDED else pictures.interval(one.value, one.low, one.high),
        }
        for name, one in found.items()
        if isinstance(one, Measured)
    ]


def _per_class(report: Report) -> list[tuple[str, Any]]:
    """Return classes and their measures, the weakest first, those that never occurred last."""
    if isinstance(report.measures, RegressionMeasures):
        return []
    rows = zip(report.classes, report.measures.per_class, strict=True)
    return sorted(rows, key=lambda row: (row[1].support == 0, row[1].f1))


def _confused(report: Report) -> list[tuple[str, str, int, float]]:
    """Return the pairs that are taken for each other most: true, predicted, how often, and in what share."""
    if not isinstance(report.measures, SingleLabelMeasures):
        return []
    matrix = report.measures.confusion.copy()
    support = matrix.sum(axis=1)
    np.fill_diagonal(matrix, 0)
    order = np.argsort(-matrix, axis=None, kind="stable")[:N_CONFUSED]
    places = zip(*np.unravel_index(order, matrix.shape), strict=True)
    return [
        (report.classes[true], report.classes[said], int(matrix[true, said]), float(matrix[true, said] / support[true]))
        for true, said in places
        if matrix[true, said] > 0
    ]


def _pictures(report: Report) -> dict[str, Any]:
    drawn: dict[str, Any] = dict.fromkeys(("confusion", "reliability", "curve", "map", "scatter"))
    if isinstance(report.measures, SingleLabelMeasures):
        drawn["confusion"] = pictures.confusion(report.measures.confusion, report.classes)
    if isinstance(report.measures, SingleLabelMeasures | MultiLabelMeasures):
        drawn["reliability"] = pictures.reliability(report.measures.reliability)
    if report.curve:
        drawn["curve"] = pictures.curve(report.curve)
    if report.map:
        drawn["map"] = pictures.map_of(report.map, report.classes if report.kind == "single" else ())
    if report.scatter:
        drawn["scatter"] = pictures.scatter(report.scatter)
    return drawn


def _dots(report: Report) -> list[list[str]]:
    """Return what a hover shows of each dot of the map: name, text, image, label, and the prediction where wrong."""
    return [
        [dot.item.name, dot.item.text, dot.item.image, dot.label, "" if dot.right else dot.predicted]
        for dot in (report.map.dots if report.map else ())
    ]


def _previewed(report: Report) -> bool:
    """Tell whether any item is shown by more than its name."""
    shown = (*(one.item for one in report.wrong), *(one.item for one in report.suspects))
    return any(item.image or item.text for item in (*shown, *(one.item for one in report.duplicates)))


def _percent(share: float | None, digits: int = 1) -> str:
    """Write a share; one that is rounded to 0 and is not 0 as less than the least."""
    if share is None:
        return "–"
    least = 10.0**-digits
    return f"< {least:g} %" if 0 < 100 * share < least / 2 else f"{100 * share:.{digits}f} %"


def _decimal(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}" if abs(value) >= 100 else f"{value:.3f}"
