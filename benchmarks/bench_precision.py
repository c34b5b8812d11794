"""What each precision of the built-in backbones costs and keeps: CPU ms an item, MB, and fidelity to fp32.

Each is made as `headwater export NAME --precision …` makes it, calibrated and compared on the built-in items. Those
that miss the floor are rows too, with their worst layers. The forwards are then timed in turns, one thread, one item a
batch, by the process's CPU time; the preparation of items is the same for all, and left out.

With `--heads` it measures, in place of that, what heads on real data lose by int8: the ten published experiments of
Banking77 (the goal is the mean of the published within 0.005), and clothing.

Run: python benchmarks/bench_precision.py [--rounds 5] [--floor 0.995] [--heads] [--data FOLDER]
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from backbone import ensure
from bench_heads import PUBLISHED, first_of_each
from labelled_sets import DEFAULT, banking77, clothing
from numpy.typing import NDArray
from record import keep_result, markdown
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import normalize

from extractor import Extractor, runtime
from extractor.backbone import Backbone
from extractor.derive import FLOOR, REFERENCE, derive
from extractor.errors import ExtractorError
from extractor.golden import cosines_of
from extractor.plan import Plan
from extractor.prepare import load_prepare
from extractor.shelf import find_backbone
from extractor.spec import PRECISIONS, read_spec
from headwater.fidelity import built_in, terms_of

BACKBONES = ("efficientnet-lite0", "minilm-l6")
TIMED = 40  # items, in each round


def main() -> None:
    """Make each precision, time them, and keep the table."""
    options = _options()
    if options.heads:
        rows = [*_banking77(options.data), *_clothing(options.data)]
        print(markdown(rows))
        return keep_result(Path(__file__), rows, note="int8 as calibrated on the built-in items", suffix="_heads")
    rows = []
    with tempfile.TemporaryDirectory(prefix="headwater-bench-") as scratch:
        for name in BACKBONES:
            rows += _rows(find_backbone(ensure(name)), Path(scratch), options.rounds, options.floor)
    print(markdown(rows))
    note = "CPU ms of the forward alone, one thread, batch 1, medians of interleaved rounds; speed-up is against fp32"
    keep_result(Path(__file__), rows, note=note)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--floor", type=float, default=FLOOR)
    parser.add_argument("--heads", action="store_true")
    parser.add_argument("--data", type=Path, default=DEFAULT)
    return parser.parse_args()


def _rows(source: Path, scratch: Path, rounds: int, floor: float) -> list[dict[str, Any]]:
    spec = read_spec(source)
    folders, refused = {REFERENCE: source}, {}
    for precision in PRECISIONS:
        if precision == REFERENCE:
            continue
        print(f"{spec.name} in {precision} …", flush=True)
        try:
            terms = terms_of(spec.modality, precision, floor=floor)
            folders[precision] = derive(source, precision, scratch / f"{spec.name}@{precision}", terms=terms)
        except ExtractorError as error:
            refused[precision] = str(error)
    prepare = load_prepare(spec, source)
    arrays = [prepare(item).array for item in built_in(spec.modality).items[:TIMED]]
    times = _times({precision: _load(folder) for precision, folder in folders.items()}, arrays, rounds)
    found = [_row(folder, precision, times) for precision, folder in folders.items()]
    return found + [
        {**dict.fromkeys(found[0], ""), "backbone": spec.name, "precision": precision, "remark": reason}
        for precision, reason in refused.items()
    ]


def _banking77(data: Path) -> Iterator[dict[str, Any]]:
    splits = banking77(data)
    (texts, y), (others, y_test) = splits["train"], splits["test"]
    items = [str(text).encode() for text in [*texts, *others]]
    for X in _embedded("minilm-l6", items):
        order, accuracies = list(range(len(y))), []
        for _ in PUBLISHED:
            np.random.RandomState(42).shuffle(order)  # the published recipe
            kept = first_of_each(order, y)
            head = LogisticRegression(random_state=42, max_iter=100).fit(X.rows[kept], y[kept])
            accuracies.append(head.score(X.rows[len(y) :], y_test))
        yield _scored("Banking77, mean of ten", X, float(np.mean(accuracies)), f"{np.mean(PUBLISHED):.5f}")


def _clothing(data: Path) -> Iterator[dict[str, Any]]:
    splits = clothing(data)
    (paths, y), (others, y_test) = splits["train"], splits["test"]
    items = [Path(path).read_bytes() for path in [*paths, *others]]
    for X in _embedded("efficientnet-lite0", items):
        head = LogisticRegression(C=10, max_iter=1000).fit(X.rows[: len(y)], y)
        yield _scored("clothing", X, float(head.score(X.rows[len(y) :], y_test)), "")


class Embedded(NamedTuple):
    """Embeddings (n, dim) of unit length in one precision, and their cosines (n,) to those in fp32."""

    precision: str
    rows: NDArray[np.float32]
    cosines: NDArray[np.float64]


def _embedded(name: str, items: list[bytes]) -> Iterator[Embedded]:
    reference = None
    for precision in (REFERENCE, "int8"):
        folder = find_backbone(ensure(name if precision == REFERENCE else f"{name}@{precision}"))
        with Extractor.load(folder, cache="off") as extractor:
            rows = normalize(extractor.extract(items))
        reference = rows if reference is None else reference
        yield Embedded(precision, rows, cosines_of(rows, reference))


def _scored(data: str, X: Embedded, accuracy: float, published: str) -> dict[str, Any]:
    return {
        "data": data,
        "precision": X.precision,
        "items": f"{len(X.rows):,}",
        "accuracy": f"{accuracy:.5f}",
        "published in fp32": published,
        "mean cosine": f"{X.cosines.mean():.5f}",
        "least": f"{X.cosines.min():.5f}",
    }


def _load(folder: Path) -> Backbone:
    spec = read_spec(folder)
    name, provider = runtime.default(spec.precision)
    return Backbone.load(folder, spec, Plan(runtime=name, provider=provider))


def _times(backbones: dict[str, Backbone], arrays: list[NDArray[Any]], rounds: int) -> dict[str, list[float]]:
    """Return the CPU ms an item of each round, the backbones taking turns."""
    times: dict[str, list[float]] = {precision: [] for precision in backbones}
    for number in range(rounds + 1):
        for precision, backbone in backbones.items():
            begun = time.process_time()
            for array in arrays:
                backbone.forward([array])
            if number:  # the first warms up
                times[precision].append(1000 * (time.process_time() - begun) / len(arrays))
    return times


def _row(folder: Path, precision: str, times: dict[str, list[float]]) -> dict[str, Any]:
    report, spec = read_spec(folder).report, read_spec(folder)
    near, head = (report.fidelity, report.head) if report else (None, None)
    ratios = [first / own for first, own in zip(times[REFERENCE], times[precision], strict=True)]
    return {
        "backbone": spec.name.partition("@")[0],
        "precision": f"{precision}, {runtime.default(precision)[0]}",
        "CPU ms": f"{statistics.median(times[precision]):.2f}",
        "speed-up": f"{statistics.median(ratios):.2f}",
        "MB": f"{sum(path.stat().st_size for path in folder.iterdir()) / 1e6:.1f}",
        "mean cosine": f"{near.mean_cosine:.5f}" if near else "",
        "least": f"{near.min_cosine:.5f}" if near else "",
        "same neighbour": f"{near.neighbours:.3f}" if near else "",
        "of ten": f"{near.neighbours_10:.3f}" if near else "",
        "head (fp32)": f"{head.own:.3f} ({head.fp32:.3f})" if head else "",
        "remark": _remark(report.kept_fp32) if report else "",
    }


def _remark(kept: tuple[str, ...]) -> str:
    return f"{len(kept)} layers in fp32: {', '.join(kept)}" if kept else ""


if __name__ == "__main__":
    main()
