"""Whatever a person has in hand -> the item: bytes.

`bytes` stay as they are, a `str` is text, a `pathlib.Path` is a file's content, an array travels as `.npy`, and a
Pillow image as a lossless file. Loads neither Pillow nor onnxruntime.
"""

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from extractor.errors import ItemTooLarge, UndecodableItem, UnreadableItem

Item = bytes | bytearray | memoryview | str | Path | np.ndarray[Any, Any] | Any  # the last: a Pillow image

_ORIENTATION = 0x0112  # the EXIF tag
_PNG_MODES = {"1", "L", "LA", "P", "RGB", "RGBA", "I;16"}  # other modes travel as TIFF, which holds them all


def as_bytes(item: Item, *, max_bytes: int) -> bytes:
    """Return an item's bytes.

    Parameters
    ----------
    item : bytes-like, str, pathlib.Path, ndarray or PIL.Image.Image
    max_bytes : int
        A larger item is refused; a larger file is refused before it is read.

    Raises
    ------
    ItemTooLarge, UnreadableItem
        This item's own error.
    TypeError
        The item is of no kind that is listed here.
    """
    if isinstance(item, Path):
        return _read(item, max_bytes)
    data = _encode(item)
    check_size(len(data), max_bytes)
    return data


def check_size(n_bytes: int, max_bytes: int) -> None:
    """Refuse an item of more than `max_bytes` bytes with ItemTooLarge."""
    if n_bytes > max_bytes:
        raise ItemTooLarge(f"item has {n_bytes:,} bytes, the limit is {max_bytes:,}; send a smaller one")


def check_several(items: Iterable[Item]) -> Iterable[Item]:
    """Return items; raise TypeError for a single one, whose parts would be taken for items."""
    if isinstance(items, str | bytes | bytearray | memoryview | Path):
        raise TypeError(f"items is a single {type(items).__name__}; put it into a list")
    return items


def _encode(item: Item) -> bytes:
    if isinstance(item, bytes):
        return item
    if isinstance(item, str):
        return item.encode("utf-8", "surrogatepass")  # a lone surrogate is then refused as invalid UTF-8
    if isinstance(item, bytearray | memoryview):
        return bytes(item)
    if isinstance(item, np.ndarray) or (hasattr(item, "getexif") and hasattr(item, "save")):
        try:
            return _npy(item) if isinstance(item, np.ndarray) else _image_file(item)
        except (OSError, ValueError, SyntaxError) as error:
            raise UndecodableItem(f"{type(item).__name__} cannot be sent: {error}") from None
    raise TypeError(f"an item is bytes, str, pathlib.Path, ndarray or a Pillow image, not {type(item).__name__}")


def _read(path: Path, max_bytes: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
            if len(data) > max_bytes:
                check_size(path.stat().st_size, max_bytes)
            return data
    except OSError as error:
        raise UnreadableItem(f"cannot read {path}: {error.strerror or type(error).__name__}") from None


def _npy(array: np.ndarray[Any, Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _image_file(image: Any) -> bytes:
    buffer = io.BytesIO()
    image.load()  # a TIFF is turned upright only now
    orientation = image.getexif().get(_ORIENTATION, 1)
    bare = image.copy()  # without the tags of the file that it came from, compression among them
    bare.info = {key: value for key, value in image.info.items() if key == "transparency"}
    exif = bare.getexif()
    exif.clear()
    exif[_ORIENTATION] = orientation
    if image.mode in _PNG_MODES:
        bare.save(buffer, "PNG", compress_level=1, exif=exif)
    else:
        bare.save(buffer, "TIFF", exif=exif)
    return buffer.getvalue()
