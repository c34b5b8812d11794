import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from extractor.decode.image import decode_image
from extractor.decode.text import decode_text
from extractor.errors import EmptyItem, ItemTooLarge, UndecodableItem
from extractor.items import as_bytes
from tests.tiny import encoded

MAX_PIXELS = 1 << 26


def decode(data: bytes) -> np.ndarray:
    image = decode_image(data, max_pixels=MAX_PIXELS)
    assert image.mode == "RGB"
    return np.asarray(image)


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    """A smooth image with a bright top left corner, so that orientation shows."""
    y, x = np.mgrid[0:60, 0:90]
    array = np.stack([255 - 2 * x, 255 - 4 * y, (x + y) % 200], axis=-1).clip(0, 255).astype(np.uint8)
    return Image.fromarray(array)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_lossless_formats_return_the_pixels(photo: Image.Image, kind: str) -> None:
    np.testing.assert_array_equal(decode(encoded(photo, kind)), np.asarray(photo))


@pytest.mark.parametrize(("kind", "options"), [("JPEG", {"quality": 95}), ("WEBP", {"quality": 95}), ("GIF", {})])
def test_lossy_formats_return_nearly_the_pixels(photo: Image.Image, kind: str, options: dict) -> None:
    difference = np.abs(decode(encoded(photo, kind, **options)).astype(int) - np.asarray(photo))
    assert difference.mean() < 12


def test_gif_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode(data)[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_honoured(photo: Image.Image, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    array = np.asarray(photo)
    upright = {
        1: array,
        2: array[:, ::-1],
        3: array[::-1, ::-1],
        4: array[::-1],
        5: array.transpose(1, 0, 2),
        6: np.rot90(array, -1),
        7: array[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(array, 1),
    }[orientation]
    np.testing.assert_array_equal(decode(encoded(photo, "PNG", exif=exif)), upright)


def test_broken_exif_leaves_the_pixels(photo: Image.Image) -> None:
    data = encoded(photo, "PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff" + b"\xff" * 40)
    np.testing.assert_array_equal(decode(data), np.asarray(photo))


def test_grey_palette_alpha_and_bilevel_become_rgb(photo: Image.Image) -> None:
    grey = photo.convert("L")
    np.testing.assert_array_equal(decode(encoded(grey, "PNG")), np.asarray(grey.convert("RGB")))
    palette = photo.quantize(16)
    np.testing.assert_array_equal(decode(encoded(palette, "PNG")), np.asarray(palette.convert("RGB")))
    transparent = photo.copy()
    transparent.putalpha(Image.new("L", photo.size, 7))
    np.testing.assert_array_equal(decode(encoded(transparent, "PNG")), np.asarray(photo))
    np.testing.assert_array_equal(
        decode(encoded(grey.convert("1"), "PNG"))[..., 0], np.asarray(grey.convert("1")) * 255
    )


def test_palette_with_transparency_becomes_rgb_without_a_warning(photo: Image.Image) -> None:
    palette = photo.quantize(16)
    data = encoded(palette, "PNG", transparency=bytes([0] * 16))
    np.testing.assert_array_equal(decode(data), np.asarray(palette.convert("RGB")))


def test_cmyk_jpeg_becomes_rgb() -> None:
    red = Image.new("RGB", (32, 32), (200, 30, 40)).convert("CMYK")
    assert np.abs(decode(encoded(red, "JPEG", quality=95))[0, 0].astype(int) - [200, 30, 40]).max() < 10


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_keep_their_high_byte(kind: str) -> None:
    values = np.linspace(0, 65_535, 64 * 4).astype(np.uint16).reshape(4, 64)
    expected = np.repeat((values >> 8).astype(np.uint8)[..., None], 3, axis=2)
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(values), kind)), expected)


@pytest.mark.parametrize("values", [(-1, 7), (0, 65_536), (-(1 << 31), (1 << 31) - 1)])
def test_pixels_beyond_sixteen_bits_are_refused_and_not_clipped(values: tuple[int, int]) -> None:
    least, most = values
    image = Image.fromarray(np.array([[least, most]], np.int32))
    with pytest.raises(UndecodableItem, match=f"pixels of {least:,} to {most:,}, beyond 16 bits, whose range is not"):
        decode(encoded(image, "TIFF"))


def test_float_pixels_are_refused_with_a_way_on() -> None:
    data = encoded(Image.fromarray(np.zeros((4, 4), np.float32)), "TIFF")
    with pytest.raises(UndecodableItem, match="8 or 16 bits"):
        decode(data)


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3), (5, 7, 4)])
def test_npy_arrays_are_images(shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    found = decode(as_bytes(array, max_bytes=1 << 20))
    expected = np.repeat(array[..., None], 3, axis=2) if array.ndim == 2 else array[..., :3]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    "array",
    [np.zeros((4, 4), np.float32), np.zeros(9, np.uint8), np.zeros((0, 4, 3), np.uint8), np.zeros((4, 4, 2), np.uint8)],
)
def test_other_npy_arrays_are_refused_and_named(array: np.ndarray) -> None:
    with pytest.raises(UndecodableItem, match=str(array.dtype)):
        decode(as_bytes(array, max_bytes=1 << 20))


def test_npy_with_objects_is_never_unpickled() -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.array([{"a": 1}], object), allow_pickle=True)
    with pytest.raises(UndecodableItem):
        decode(buffer.getvalue())


def test_every_cut_of_every_format_is_that_items_error(photo: Image.Image) -> None:
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"):
        data = encoded(photo, kind)
        for part in (0.0005, 0.02, 0.3, 0.7):
            with pytest.raises(UndecodableItem):
                decode(data[: max(1, int(len(data) * part))])


def bomb(width: int, height: int) -> bytes:
    """A PNG that says it is width × height."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("width", "height"), [(20_000, 20_000), (10_000, 10_000), (8193, 8192), (1 << 30, 1)])
def test_pixels_are_bounded_before_they_are_decoded(width: int, height: int) -> None:
    with pytest.raises(ItemTooLarge, match=f"{width * height:,} pixels.*67,108,864"):
        decode(bomb(width, height))


def test_npy_pixels_are_bounded_before_they_are_read() -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (20_000, 20_000, 3)})
    with pytest.raises(ItemTooLarge, match="400,000,000"):
        decode(header.getvalue())
    with pytest.raises(UndecodableItem):
        decode(as_bytes(np.zeros((4, 4, 3), np.uint8), max_bytes=1 << 20)[:140])


def test_a_files_name_in_place_of_the_file_is_guessed() -> None:
    with pytest.raises(UndecodableItem, match=r"begin with b'photos/c'; is it a file's name\? Give that as a pathlib"):
        decode(as_bytes("photos/cat.jpg", max_bytes=100))
    with pytest.raises(UndecodableItem) as other:
        decode(b"\0" * 100)
    assert "name" not in str(other.value)


def test_a_jpeg_of_many_scans_is_refused(photo: Image.Image) -> None:
    data = encoded(photo, "JPEG", progressive=True)
    assert decode_image(data, max_pixels=MAX_PIXELS).size == photo.size
    last = data.rindex(b"\xff\xda")
    with pytest.raises(ItemTooLarge, match="scans, the limit is 100"):
        decode(data[:-2] + data[last:-2] * 200 + data[-2:])


def test_a_jpeg_of_many_scans_cannot_hide_them(photo: Image.Image) -> None:
    data = encoded(photo, "JPEG", progressive=True)
    begin, last = data.index(b"\xff\xda"), data.rindex(b"\xff\xda")
    scans = data[last:-2] * 200
    comment = b"\xff\xfe\x00\x04\xff\xd9"  # the end of the image is only said in it
    no_segment = b"\xff\x02\xff\xff"  # libjpeg looks for the next marker behind a reserved one, and skips nothing
    short = b"\xff\xfe\x00\x00"
    for before in (comment, no_segment, short, b"\xff\xff\xff", b"\xff\x00\xd9", b"\xff\xd3\xd9"):
        with pytest.raises(ItemTooLarge, match="scans, the limit is 100"):
            decode(data[:begin] + data[begin:-2] + before + scans + data[-2:])


def test_what_is_no_scan_of_the_image_is_not_counted(photo: Image.Image) -> None:
    many = b"\xff\xda" * 1000
    for options in ({}, {"progressive": True}, {"restart_marker_blocks": 1}):
        plain = encoded(photo, "JPEG", **options)
        for data in (plain + many, encoded(photo, "JPEG", comment=many, **options), plain + plain * 150):
            np.testing.assert_array_equal(decode(data), decode(plain))
        with pytest.raises(UndecodableItem, match="cut short"):
            decode(encoded(photo, "JPEG", comment=many, **options)[:-300])


@pytest.mark.parametrize("shape", ["(2, 5", "(True, True)", "((((((("])
def test_hostile_npy_headers_are_that_items_error(shape: str) -> None:
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".encode()
    with pytest.raises(UndecodableItem):
        decode(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)


def test_text_is_utf8() -> None:
    assert decode_text("naïve 文字 😀".encode(), max_bytes=100) == "naïve 文字 😀"
    with pytest.raises(UndecodableItem, match="0xff at position 3"):
        decode_text(b"abc\xff", max_bytes=100)


@pytest.mark.parametrize("data", [b"", b" \n\t", "\u3000".encode()])
def test_text_of_nothing_is_refused(data: bytes) -> None:
    with pytest.raises(EmptyItem):
        decode_text(data, max_bytes=100)


def test_text_is_bounded() -> None:
    with pytest.raises(ItemTooLarge, match=r"101 bytes.*100"):
        decode_text(b"a" * 101, max_bytes=100)
