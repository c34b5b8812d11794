"""Bytes -> an RGB image, with its pixels counted before they are decoded.

Reads JPEG, PNG, WebP, GIF (first frame), BMP, TIFF (first page) and `.npy` arrays of uint8.
"""

import io
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from extractor.errors import ItemError, ItemTooLarge, UndecodableItem

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
MAX_SCANS = 100  # of a JPEG: each is decoded over all pixels, whatever its few bytes; ordinary ones have 1 to 12
# Of a JPEG (ITU-T T.81, B.1.1). What stands for an FF of the image's data, restarts and reserved ones have no length.
_MARKER = re.compile(rb"\xff[\xc0-\xcf\xd8-\xfe]")
_START_OF_SCAN, _END_OF_IMAGE = b"\xff\xda", b"\xff\xd9"
_NPY_MAGIC = b"\x93NUMPY"
_MOST = (1 << 16) - 1
_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N", "I")


def decode_image(data: bytes, *, max_pixels: int) -> Image.Image:
    """Decode one image.

    The EXIF orientation is applied. Grey, palette, alpha and CMYK become RGB as `Image.convert` has it (alpha is
    dropped); 16 bits become 8 by their high byte, where `Image.convert` would clip.

    Parameters
    ----------
    data : bytes
        An encoded image, or `.npy` of uint8 (height, width), (height, width, 3) or (height, width, 4).
    max_pixels : int
        Bound on width × height.

    Returns
    -------
    PIL.Image.Image
        Mode RGB.

    Raises
    ------
    ItemTooLarge
        More pixels than `max_pixels`.
    UndecodableItem
        Not an image of a known format, or a damaged one.
    """
    if data.startswith(_NPY_MAGIC):
        return _from_npy(data, max_pixels)
    image = _open(data, max_pixels)
    try:
        return _as_rgb(_upright(image))
    except UndecodableItem:
        raise
    except Exception:  # a decoder meeting hostile bytes raises nearly anything: OSError, SyntaxError, struct.error, …
        width, height = image.size
        raise UndecodableItem(
            f"{image.format} image of {width}×{height} is damaged or cut short ({len(data):,} bytes); "
            "send the whole file"
        ) from None


def _open(data: bytes, max_pixels: int) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        hint = "; is it a file's name? Give that as a pathlib.Path" if _may_be_a_name(data) else ""
        raise UndecodableItem(
            f"no JPEG, PNG, WebP, GIF, BMP, TIFF or .npy image: {len(data):,} bytes that begin with {data[:8]!r}{hint}"
        ) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        pixels = "".join(c for c in str(error).split("pixels")[0] if c.isdigit())
        raise _too_large(f"{int(pixels or 0):,}", max_pixels) from None
    except Exception:  # as above: the header itself may be hostile
        raise UndecodableItem(f"image header is damaged ({len(data):,} bytes); send the whole file") from None
    _check_pixels(image.width, image.height, max_pixels)
    if image.format in ("JPEG", "MPO"):
        _check_scans(data)
    return image


def _check_scans(data: bytes) -> None:
    scans = sum(marker == _START_OF_SCAN for marker in _markers(data))
    if scans > MAX_SCANS:
        raise ItemTooLarge(f"JPEG has {scans:,} scans, the limit is {MAX_SCANS}; save it again")


def _markers(data: bytes) -> Iterator[bytes]:
    """Yield a JPEG's markers, as libjpeg comes by them: not those in segments, nor behind the end of the image.

    There a thumbnail may be, or the video of a motion photo.
    """
    position = len(b"\xff\xd8")
    while (found := _MARKER.search(data, position)) and found[0] != _END_OF_IMAGE:
        yield found[0]
        length = int.from_bytes(data[found.end() : found.end() + 2])  # its own two bytes are counted in
        position = found.end() + max(2, length)


def _may_be_a_name(data: bytes) -> bool:
    return len(data) < 256 and b"." in data and data.decode("utf-8", "replace").isprintable()


def _check_pixels(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise _too_large(f"{width}×{height} = {width * height:,}", max_pixels)


def _too_large(pixels: str, max_pixels: int) -> ItemTooLarge:
    return ItemTooLarge(f"image has {pixels} pixels, the limit is {max_pixels:,}; send a smaller one")


def _upright(image: Image.Image) -> Image.Image:
    image.load()
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # the pixels are good, only their EXIF block is not: there is no orientation to honour
        return image


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode in _SIXTEEN_BIT:
        return _of_high_bytes(np.asarray(image))
    if image.mode == "F":
        raise _of_unknown_range("32-bit float pixels")
    if image.mode == "P" and "transparency" in image.info:
        return image.convert("RGBA").convert("RGB")
    return image.convert("RGB")


def _of_high_bytes(values: NDArray[Any]) -> Image.Image:
    least, most = values.min(), values.max()
    if least < 0 or most > _MOST:  # mode I holds 32 bits, with a sign
        raise _of_unknown_range(f"pixels of {least:,} to {most:,}, beyond 16 bits")
    return Image.fromarray((values >> 8).astype(np.uint8)).convert("RGB")


def _of_unknown_range(what: str) -> UndecodableItem:
    return UndecodableItem(f"image has {what}, whose range is not known; send 8 or 16 bits a channel")


def _from_npy(data: bytes, max_pixels: int) -> Image.Image:
    file = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read_header(file)
        if len(shape) >= 2:
            _check_pixels(shape[1], shape[0], max_pixels)
        if dtype != np.uint8 or len(shape) not in (2, 3) or shape[2:] not in ((), (3,), (4,)) or 0 in shape:
            raise UndecodableItem(
                f"array is {dtype} {shape}; as an image it must be uint8 (height, width), (height, width, 3) or (…, 4)"
            )
        file.seek(0)
        array = np.load(file, allow_pickle=False)
    except ItemError:
        raise
    except Exception:  # NumPy parses the header as Python: a hostile one raises nearly anything
        raise UndecodableItem(
            f".npy array is damaged or cut short ({len(data):,} bytes); send the whole file"
        ) from None
    return _as_rgb(Image.fromarray(array))
