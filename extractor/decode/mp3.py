"""Bytes of an MP3 -> the same with a header frame that tells its length, which is counted, or an error.

An MP3 is a row of frames, each with a header of 4 bytes (ISO/IEC 11172-3 and 13818-3). A first frame may hold their
number instead of sound; where there is none, libsndfile guesses the length by the first frame's bit rate, and reads a
file of varying rates to less than half.
"""

from collections.abc import Iterator
from typing import NamedTuple

from extractor.errors import UndecodableItem

_KBITS = {
    3: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),  # MPEG 1, layer III
    2: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),  # MPEG 2 and 2.5
}
_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}  # by version bits
_LAYER_III = 1
_MONO = 3
_TAGS = (b"TAG", b"APETAGEX", b"LYRICSBEGIN", b"ID3")  # what may follow the last frame
_VBRI_AT = 36
_ENOUGH = 9  # index of a bit rate whose frames hold a header


class _Frame(NamedTuple):
    """A frame's place, its bytes, its version bits, and where in it a number of frames would stand."""

    begin: int
    size: int
    version: int
    note: int


def with_length(data: bytes) -> bytes:
    """Return an MP3 without its tags, its first frame telling how many there are.

    Raises
    ------
    UndecodableItem
        It holds no frame of layer III, is cut short within one, or has not as many as its header says.
    """
    frames = list(_frames(data, _behind_tag(data)))
    if not frames:
        raise UndecodableItem(f"MP3 sound is damaged or cut short ({len(data):,} bytes); send the whole file")
    first, end = frames[0], frames[-1].begin + frames[-1].size
    stated, found = _stated(data, first), len(frames) - 1
    if stated is None:
        _check_tail(data, end)
        return _header(data, first, len(frames)) + data[first.begin : end]
    if stated != found:
        raise UndecodableItem(
            f"MP3 header says that there are {stated:,} frames, and {found:,} are there: it was cut short, or the "
            "header lies; send the whole file, or save it again"
        )
    return data[first.begin : end]


def _behind_tag(data: bytes) -> int:
    """Return where an ID3v2 tag ends: its size stands in four bytes of seven bits."""
    if data[:3] != b"ID3" or len(data) < 10:
        return 0
    return 10 + sum((byte & 0x7F) << shift for byte, shift in zip(data[6:10], (21, 14, 7, 0), strict=True))


def _frames(data: bytes, begin: int) -> Iterator[_Frame]:
    while (frame := _frame(data[begin : begin + 4], begin)) and begin + frame.size <= len(data):
        yield frame
        begin += frame.size


def _check_tail(data: bytes, end: int) -> None:
    """Check that no more frames can have been meant behind the last one, where nothing tells their number."""
    if not data.startswith(_TAGS, end) and any(data[end:]):
        raise UndecodableItem(
            f"MP3 sound is damaged or cut short at byte {end:,} of {len(data):,}; send the whole file, or save it again"
        )


def _frame(header: bytes, begin: int) -> _Frame | None:
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return None
    version, layer = header[1] >> 3 & 3, header[1] >> 1 & 3
    kbits, rate = header[2] >> 4, header[2] >> 2 & 3
    if version == 1 or layer != _LAYER_III or not 1 <= kbits <= 14 or rate == 3:
        return None
    size = _size(version, kbits - 1, rate) + (header[2] >> 1 & 1)
    mono = header[3] >> 6 == _MONO
    side = (17 if mono else 32) if version == 3 else (9 if mono else 17)
    return _Frame(begin, size, version, begin + 4 + side)


def _size(version: int, kbits: int, rate: int) -> int:
    table = _KBITS[3 if version == 3 else 2]
    return (144 if version == 3 else 72) * 1000 * table[kbits] // _RATES[version][rate]


def _stated(data: bytes, first: _Frame) -> int | None:
    """Return how many frames the first one says that there are; None where it is sound."""
    if data[first.note : first.note + 4] in (b"Xing", b"Info") and data[first.note + 7] & 1:
        return int.from_bytes(data[first.note + 8 : first.note + 12], "big")
    vbri = first.begin + _VBRI_AT
    if data[vbri : vbri + 4] == b"VBRI":
        return int.from_bytes(data[vbri + 14 : vbri + 18], "big")
    return None


def _header(data: bytes, first: _Frame, n_frames: int) -> bytes:
    """Return a frame like the first one that holds the number of those that follow."""
    sync, version, rates, channels = data[first.begin : first.begin + 4]
    rate = rates >> 2 & 3
    frame = bytearray(_size(first.version, _ENOUGH - 1, rate))
    frame[:4] = sync, version | 1, _ENOUGH << 4 | rate << 2, channels  # | 1: without a checksum
    note = first.note - first.begin
    frame[note : note + 12] = b"Xing" + (1).to_bytes(4, "big") + n_frames.to_bytes(4, "big")
    return bytes(frame)
