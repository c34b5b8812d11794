"""A modality, or a path -> the items that are measured with: bytes, no two the same."""

import io
import random
from itertools import product
from pathlib import Path

from extractor.errors import TuneError
from extractor.items import as_bytes
from extractor.limits import Limits

MIN_ITEMS = 8  # fewer have no nearest neighbours to speak of
MAX_ITEMS = 512
CROPS = 10  # of each photo
PHOTO_SIZE = (500, 375)
JPEG_QUALITY = 90
SHORT, LONG = 12, 90  # words of a text
LONG_SHARE = 0.2


def load_items(modality: str, path: Path | None = None) -> list[bytes]:
    """Return the items to measure with.

    Parameters
    ----------
    modality : str
        `image`, `text`, `audio` or `array`.
    path : Path, optional
        A folder whose files are the items, or for texts a file with one in each line. By default crops of a few photos
        as JPEG, texts of which one in five is long, or made-up sounds; for arrays there is no default.

    Raises
    ------
    TuneError
        There are fewer than `MIN_ITEMS`, or arrays without a folder.
    UnreadableItem, ItemTooLarge
    """
    if path is None:
        if modality not in _DEFAULTS:
            raise TuneError(f"a backbone of modality {modality} takes its own items: name their folder with --items")
        return _DEFAULTS[modality]()
    items = list(dict.fromkeys(_read(path, modality)))[:MAX_ITEMS]
    if len(items) < MIN_ITEMS:
        raise TuneError(f"{path} has {len(items)} different items; it takes at least {MIN_ITEMS} to measure with")
    return items


def _read(path: Path, modality: str) -> list[bytes]:
    limit = Limits().max_item_bytes
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.is_file())[:MAX_ITEMS]
        return [as_bytes(file, max_bytes=limit) for file in files]
    if modality != "text":
        raise TuneError(f"{path} is no folder; give the folder that the items are in")
    return [line for line in as_bytes(path, max_bytes=limit).splitlines() if line.strip()]


def _crops() -> list[bytes]:
    """Return crops of the golden photos: of one photo they are close neighbours, which a precision must tell apart."""
    from PIL import Image, ImageOps

    from extractor.zoo.golden import photo_files

    draw = random.Random(0)  # noqa: S311 - the same items in every run
    items = []
    for path, _ in product(photo_files(), range(CROPS)):
        with Image.open(path) as image:
            share = draw.uniform(0.5, 1)
            width, height = round(share * image.width), round(share * image.height)
            left, top = draw.randint(0, image.width - width), draw.randint(0, image.height - height)
            crop = image.convert("RGB").resize(PHOTO_SIZE, box=(left, top, left + width, top + height))
        buffer = io.BytesIO()
        (ImageOps.mirror(crop) if draw.random() < 0.5 else crop).save(buffer, "JPEG", quality=JPEG_QUALITY)
        items.append(buffer.getvalue())
    return items


def _texts() -> list[bytes]:
    from extractor.zoo.golden import TEXTS

    draw = random.Random(0)  # noqa: S311 - the same items in every run
    words = " ".join(TEXTS).split()
    lengths = [LONG if draw.random() < LONG_SHARE else SHORT for _ in range(6 * CROPS)]
    return [f"{i} {' '.join(draw.choices(words, k=length))}".encode() for i, length in enumerate(lengths)]


def _sounds() -> list[bytes]:
    from extractor.zoo.golden.sounds import sounds

    return sounds(6 * CROPS)


_DEFAULTS = {"image": _crops, "text": _texts, "audio": _sounds}
