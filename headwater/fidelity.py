"""What a precision is measured with: a modality, or what a person names -> items to calibrate on, held ones, a head.

The built-in items are none that the other half has: photos and texts of other origin are held than are calibrated on.
"""

import io
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from headwater.errors import DataInvalid

if TYPE_CHECKING:
    from extractor.derive import Judge, Terms
    from extractor.fidelity import HeadAccuracy
    from extractor.outcome import Embedding
    from extractor.sources import Entry, Options, Source

MAX_ITEMS = 256  # of a source; of more some are drawn
HELD_SHARE = 4  # one in so many of a person's own items is held, where no held ones are named
CROPS = 30  # of each of scikit-learn's two photos
DIGITS = 120
PHOTO_SIZE = (400, 300)
SOUNDS = 40
FOLDS = 5
MIN_SHOTS = 2  # of a label, for it to be learnt and judged


class Held(NamedTuple):
    """Items, no two the same, the label of each, where it has one, and its key, where it came from a source."""

    items: list[bytes]
    labels: list[str | None]
    keys: Sequence[str] = ()


def terms_of(
    modality: str,
    precision: str,
    *,
    calibrate: str | None = None,
    held: str | None = None,
    columns: "Options | None" = None,
    floor: float,
) -> "Terms":
    """Return what a precision is measured with.

    Parameters
    ----------
    modality, precision : str
    calibrate : str, optional
        A source, as `extractor.sources` reads them: the ranges of int8 are taken from its items. By default built-in
        ones. Of a person's own items one in four is held, unless held ones are named.
    held : str, optional
        A source; by default built-in items. Where its items have labels, a head is learnt and judged on them.
    columns : Options, optional
        Which are the items and the labels, where the sources are tables; labels are of what is held.
    floor : float

    Raises
    ------
    DataInvalid
        There are no items, none are built in for the modality, or some are to calibrate what is not calibrated; or
        columns are named, and no source.
    SourceInvalid, ItemError
        A source, or an item in it, cannot be read; it is no table, or has no such column.
    """
    from extractor.derive import Terms
    from extractor.sources import Options, open_source
    from extractor.tune.items import load_items

    if calibrate and precision != "int8":
        raise DataInvalid(f"{precision} is not calibrated; leave --calibrate away, or name what to compare on: --held")
    labelled = columns or Options()
    bare = replace(labelled, label=Options.label)  # of what is only calibrated on, labels are not asked for
    calibrating = open_source(calibrate, modality=modality, options=bare if held else labelled) if calibrate else None
    holding = open_source(held, modality=modality, options=labelled) if held else None
    if labelled != Options() and not (calibrate or held):
        raise DataInvalid("columns are of a table, and there is none; name it with --held, or leave them away")
    own = _read(calibrating, f"--calibrate {calibrate}") if calibrating else None
    judged = _read(holding, f"--held {held}") if holding else None
    if own and judged is None:
        own, judged = _divided(own, str(calibrate))
    if judged is None:
        judged = built_in(modality)
    calibration: list[bytes] = []
    if precision == "int8":
        named = set(judged.items)
        calibration = [item for item in (own.items if own else load_items(modality)) if item not in named]
        if not calibration:
            raise DataInvalid(f"every item of --calibrate {calibrate} is held too; name others to calibrate on")
    names = {item: key for read in (own, judged) if read for item, key in zip(read.items, read.keys, strict=False)}
    return Terms(held=judged.items, calibration=calibration, floor=floor, judge=judge_of(judged.labels), names=names)


def built_in(modality: str) -> Held:
    """Return the items that are held where a person names none.

    Crops of scikit-learn's two photos, and its digits with their labels; short messages to a shop's support with
    theirs, and texts of many kinds; made-up sounds.

    Raises
    ------
    DataInvalid
        Of arrays there are none: each backbone has its own.
    """
    if modality == "image":
        return _pictures()
    if modality == "text":
        return _texts()
    if modality == "audio":
        return _sounds()
    raise DataInvalid(f"a backbone of modality {modality} takes its own items; name them with --calibrate or --held")


def judge_of(labels: list[str | None]) -> "Judge | None":
    """Return what measures a head on the held items; None where there is nothing to learn."""
    counts = Counter(label for label in labels if label is not None)
    classes = sorted(label for label, n in counts.items() if n >= MIN_SHOTS)
    if len(classes) < 2:
        return None
    rows = np.array([row for row, label in enumerate(labels) if label in classes])
    y = np.array([str(labels[row]) for row in rows])
    folds = min(FOLDS, *(counts[label] for label in classes))

    def judge(reference: "Embedding", own: "Embedding") -> "HeadAccuracy":
        from extractor.fidelity import HeadAccuracy

        fp32, other = (_accuracy(X[rows], y, folds) for X in (reference, own))
        return HeadAccuracy(n_items=len(rows), fp32=fp32, own=other)

    return judge


def _accuracy(X: NDArray[np.float32], y: NDArray[np.str_], folds: int) -> float:
    """Return the cross-validated accuracy of a logistic head, its C the one that is best on all of them."""
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    from classifiers.heads import LogisticHead

    chosen = LogisticHead(random_state=0).fit(X, y).C_
    split = StratifiedKFold(folds, shuffle=True, random_state=0)
    return float(cross_val_score(LogisticHead(Cs=(chosen,)), X, y, cv=split).mean())


def _read(source: "Source", named: str) -> Held:
    """Read some of a source's items, no two the same: each as likely as another, however many there are.

    Reservoir sampling, as in Vitter's algorithm R ("Random Sampling with a Reservoir", ACM TOMS 11(1), 1985): only what
    is taken, for a while at least, is read.
    """
    draw = random.Random(0)  # noqa: S311 - the same items in every run
    kept: list[tuple[bytes, Entry]] = []
    for number, entry in enumerate(source.entries()):
        full = len(kept) == MAX_ITEMS
        place = draw.randrange(number + 1) if full else len(kept)
        if place >= MAX_ITEMS or (content := _content(entry)) in (item for item, _ in kept):
            continue
        kept[place : place + 1] = [(content, entry)]
    if not kept:
        raise DataInvalid(f"{named} has no items in it; name a folder, a table or an archive that has")
    return Held([item for item, _ in kept], [entry.label for _, entry in kept], [entry.key for _, entry in kept])


def _content(entry: "Entry") -> bytes:
    from extractor.errors import ItemError
    from extractor.items import as_bytes
    from extractor.limits import Limits

    content, limit = entry.content, Limits().max_item_bytes
    try:
        if isinstance(content, ItemError):
            raise content
        return as_bytes(content, max_bytes=limit) if isinstance(content, bytes | str) else content.read(limit)
    except ItemError as error:
        raise type(error)(f"{entry.key}: {error}") from None


def _divided(own: Held, source: str) -> tuple[Held, Held]:
    """Return three in four of the items, and the others, drawn: labels may stand in a cycle of four."""
    from extractor.derive import MIN_HELD

    n = len(own.items)
    if n // HELD_SHARE < MIN_HELD:
        raise DataInvalid(
            f"--calibrate {source} has {n} different items, and it takes {HELD_SHARE * MIN_HELD} to hold one in "
            f"{HELD_SHARE} back; name more, or what to hold with --held"
        )
    held = set(random.Random(0).sample(range(n), n // HELD_SHARE))  # noqa: S311 - the same items in every run
    return _at(own, [row for row in range(n) if row not in held]), _at(own, sorted(held))


def _at(held: Held, rows: list[int]) -> Held:
    return Held([held.items[row] for row in rows], [held.labels[row] for row in rows], [held.keys[row] for row in rows])


def _pictures() -> Held:
    from PIL import Image
    from sklearn.datasets import load_sample_images

    from headwater.demo.items import digits

    draw, crops = random.Random(1), []  # noqa: S311 - the same items in every run
    for photo in load_sample_images().images:
        image = Image.fromarray(photo)
        for _ in range(CROPS):
            share = draw.uniform(0.5, 1)
            width, height = round(share * image.width), round(share * image.height)
            left, top = draw.randint(0, image.width - width), draw.randint(0, image.height - height)
            buffer = io.BytesIO()
            image.resize(PHOTO_SIZE, box=(left, top, left + width, top + height)).save(buffer, "PNG", compress_level=1)
            crops.append(buffer.getvalue())
    written = digits()
    labels = [str(label) for label in written.labels[:DIGITS]]
    return Held([*crops, *written.items[:DIGITS]], [*[None] * len(crops), *labels])


def _texts() -> Held:
    from extractor.zoo.golden import TEXTS
    from headwater.demo.items import messages

    asked = messages()
    texts = [text.encode() for text in TEXTS]
    return Held([*asked.items, *texts], [*map(str, asked.labels), *[None] * len(texts)])


def _sounds() -> Held:
    """Return made-up sounds that are not calibrated on, each with its vowel."""
    from extractor.tune.items import load_items
    from extractor.zoo.golden.sounds import sounds

    n = len(load_items("audio"))
    items = sounds(n + SOUNDS)[n:]
    return Held(items, [str(number % 4) for number in range(len(items))])
