import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from extractor.decode.image import decode_image
from extractor.errors import ItemTooLarge, UndecodableItem, UnreadableItem
from extractor.items import as_bytes

MAX = 1 << 20


def test_bytes_text_and_files(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"abc")
    assert as_bytes(b"abc", max_bytes=MAX) == b"abc"
    assert as_bytes(bytearray(b"abc"), max_bytes=MAX) == as_bytes(memoryview(b"abc"), max_bytes=MAX) == b"abc"
    assert as_bytes("ä", max_bytes=MAX) == b"\xc3\xa4"
    assert as_bytes(path, max_bytes=MAX) == b"abc"


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16"])
def test_pillow_images_arrive_as_they_would_from_a_file(mode: str) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    image = (
        Image.fromarray(colours).convert("L").convert(mode)
        if mode == "I;16"
        else Image.fromarray(colours).convert(mode)
    )
    found = np.asarray(decode_image(as_bytes(image, max_bytes=MAX), max_pixels=MAX)).astype(int)
    if mode == "I;16":
        expected = np.repeat((np.asarray(image) >> 8)[..., None], 3, axis=2)
    else:
        expected = np.asarray(image.convert("RGB")).astype(int)
    assert np.abs(found - expected).max() <= 2  # YCbCr is rounded by TIFF's own tables


def test_pillow_images_keep_their_orientation() -> None:
    image = Image.new("RGB", (4, 2))
    image.getexif()[0x0112] = 6
    assert decode_image(as_bytes(image, max_bytes=MAX), max_pixels=MAX).size == (2, 4)


@pytest.mark.parametrize("mode", ["RGB", "CMYK", "YCbCr"])
@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_a_pillow_image_from_a_turned_tiff_is_turned_once(mode: str, compression: str | None) -> None:
    buffer, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    options = {} if compression is None or mode == "YCbCr" else {"compression": compression}
    Image.new("RGB", (80, 60), "red").convert(mode).save(buffer, "TIFF", exif=exif, **options)
    expected = decode_image(buffer.getvalue(), max_pixels=MAX)
    found = decode_image(as_bytes(Image.open(buffer), max_bytes=MAX), max_pixels=MAX)
    assert found.size == expected.size == (60, 80)


def test_a_pillow_image_that_cannot_be_sent_is_that_items_error() -> None:
    for image in (Image.new("HSV", (4, 4)), Image.new("RGB", (0, 0))):
        with pytest.raises(UndecodableItem, match="cannot be sent"):
            as_bytes(image, max_bytes=MAX)


def test_files_are_bounded_without_being_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # sparse
    with pytest.raises(ItemTooLarge, match=r"1,099,511,627,776 bytes.*1,048,576"):
        as_bytes(path, max_bytes=MAX)


def test_files_that_cannot_be_read_say_why(tmp_path: Path) -> None:
    with pytest.raises(UnreadableItem, match="No such file"):
        as_bytes(tmp_path / "missing", max_bytes=MAX)
    with pytest.raises(UnreadableItem, match="directory"):
        as_bytes(tmp_path, max_bytes=MAX)


def test_other_things_are_a_type_error() -> None:
    with pytest.raises(TypeError, match="not int"):
        as_bytes(7, max_bytes=MAX)
    with pytest.raises(UndecodableItem, match="Object arrays"):
        as_bytes(np.array([sys], object), max_bytes=MAX)
