"""Items on a plane, with their labels and previews -> `map.html`, one file that loads nothing from anywhere."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwater.report.facts import Shown
from headwater.report.template import rendered, write_page

STEPS = 65_535  # places along an axis
LISTED = 200  # labels that the page lists


@dataclass(frozen=True, kw_only=True, eq=False)
class Plane:
    """What a map shows.

    Parameters
    ----------
    name, backbone, fingerprint : str
    method : str
    n : int
        Items that there are; fewer may be shown.
    positions : ndarray of shape (n_shown, 2), float64
        In [-1, 1].
    names : sequence of str, (n_shown,)
    labels : sequence of str or None, (n_shown,)
    coloured_by : str
        What the labels are: the column's name.
    previews : mapping of int to Shown
        By position, of those that have one.
    notes : sequence of str
    """

    name: str
    backbone: str
    fingerprint: str
    method: str
    n: int
    positions: NDArray[np.float64]
    names: Sequence[str]
    labels: Sequence[str | None]
    coloured_by: str = "label"
    previews: Mapping[int, Shown] = field(default_factory=dict)
    notes: Sequence[str] = ()


def write_map(path: Path, plane: Plane) -> None:
    """Write the page.

    Raises
    ------
    OSError
        It cannot be written.
    """
    write_page(path, render_map(plane))


def render_map(plane: Plane) -> str:
    """Return the page."""
    counts = Counter(label for label in plane.labels if label is not None)
    ranked = [label for label, _ in counts.most_common()]
    return rendered(
        "map.html.j2",
        "map.js",
        {},
        plane=plane,
        legend=[(label, counts[label]) for label in ranked[:LISTED]],
        n_labels=len(ranked),
        without=len(plane.labels) - counts.total(),
        data=_data(plane, ranked),
    )


def _data(plane: Plane, ranked: Sequence[str]) -> dict[str, Any]:
    """Return what the script draws: whole-number places, names, and labels by their rank, -1 for none."""
    rank = {label: i for i, label in enumerate(ranked)}
    places = np.rint((np.clip(plane.positions, -1, 1) + 1) / 2 * STEPS).astype(int)
    return {
        "x": places[:, 0].tolist(),
        "y": (STEPS - places[:, 1]).tolist(),
        "label": [-1 if label is None else rank[label] for label in plane.labels],
        "labels": list(ranked),
        "names": list(plane.names),
        "texts": {i: one.text for i, one in plane.previews.items() if one.text},
        "images": {i: one.image for i, one in plane.previews.items() if one.image},
    }
