"""Bytes -> a waveform of one channel, of which no more is decoded than the backbone reads.

Reads WAV, FLAC, OGG (Vorbis, Opus) and MP3, by libsndfile.
"""

import io
import math
from contextlib import suppress
from typing import NamedTuple

import numpy as np
import soundfile
from numpy.typing import NDArray

from extractor.decode.mp3 import with_length
from extractor.errors import EmptyItem, ItemError, ItemTooLarge, UndecodableItem

MIN_RATE, MAX_RATE = 1_000, 384_000  # samples a second
MAX_CHANNELS = 32
_FORMATS = {"WAV", "WAVEX", "FLAC", "OGG", "MP3"}
_BLOCK = 1 << 16  # samples of each channel that are decoded at a time
_FLAC_LENGTH, _FLAC_MOST = slice(21, 26), (1 << 36) - 1  # where the number of samples is, in the last 36 bits
_NPY_MAGIC = b"\x93NUMPY"
_OGG_PAGE = b"OggS"
_OGG_HEADER = 27  # bytes; the last says how many bytes of segments' sizes follow (RFC 3533)
_OGG_FLAGS, _OGG_LAST = 5, 4  # where a page's flags are, and that of the last page


class Sound(NamedTuple):
    """A waveform (n_samples,), float32, the file's full scale at 1; its rate; and whether its end was left out."""

    samples: NDArray[np.float32]
    sample_rate: int
    truncated: bool


def decode_audio(data: bytes, *, max_seconds: float) -> Sound:
    """Decode the beginning of one sound, and mix its channels to one by their mean.

    Parameters
    ----------
    data : bytes
        A WAV, FLAC, OGG or MP3 file.
    max_seconds : float
        What comes later is not decoded.

    Returns
    -------
    Sound

    Raises
    ------
    EmptyItem
        The file holds no sample.
    ItemTooLarge
        More channels, or samples a second, than `MAX_CHANNELS` and `MAX_RATE`.
    UndecodableItem
        Not a sound of a known format, a damaged one, or one whose header says another length than it has.
    """
    kind = _kind(data)
    try:
        if kind == "WAV":
            _check_wav(data)
        elif kind == "OGG":
            _check_ogg(data)
        elif kind == "MP3":
            data = with_length(data)
        elif kind == "FLAC":
            _check_flac(data)
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            return _read(file, kind, max_seconds)
    except ItemError:
        raise
    except Exception:  # libsndfile's own error, or what Python makes of a header that is hostile
        raise _damaged(data, kind) from None


def _kind(data: bytes) -> str:
    """Tell the format by the first bytes, so that libsndfile tries none of its others on them."""
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        return "WAV"
    if data[:4] in (b"fLaC", _OGG_PAGE):
        return "FLAC" if data[:4] == b"fLaC" else "OGG"
    if data[:3] == b"ID3" or (data[:1] == b"\xff" and data[1:2] >= b"\xe0"):
        return "MP3"
    if data.startswith(_NPY_MAGIC):
        raise UndecodableItem("an array does not say how many samples a second it has; send it as a WAV or FLAC file")
    hint = "; a file's name goes as a pathlib.Path" if len(data) < 256 and b"." in data else ""
    raise UndecodableItem(f"no WAV, FLAC, OGG or MP3: {len(data):,} bytes that begin with {data[:8]!r}{hint}")


def _damaged(data: bytes, kind: str) -> UndecodableItem:
    return UndecodableItem(f"{kind} sound is damaged or cut short ({len(data):,} bytes); send the whole file")


def _check_wav(data: bytes) -> None:
    """Walk over the chunks: libsndfile takes what is there for the whole, whatever the header says.

    What follows a whole sound behind the file's own end is nothing of it.
    """
    position, end, sound = 12, 8 + int.from_bytes(data[4:8], "little"), 0
    while position + 8 <= len(data) and not (sound and position >= end):
        name, size = data[position : position + 4], int.from_bytes(data[position + 4 : position + 8], "little")
        left = len(data) - position - 8
        if size > left:
            what = "its sound" if name == b"data" else f"a chunk {name!r}"
            raise UndecodableItem(
                f"WAV header says that {what} has {size:,} bytes, and {left:,} are there: it was cut short, or the "
                "header lies; send the whole file, or save it again"
            )
        sound = size if name == b"data" else sound
        position += 8 + size + size % 2


def _check_flac(data: bytes) -> None:
    """Look for sound behind the length that the header states (RFC 9639): libsndfile would leave it out unsaid."""
    stated = int.from_bytes(data[_FLAC_LENGTH]) & _FLAC_MOST
    if data[_FLAC_LENGTH] and not stated:
        raise UndecodableItem("FLAC header does not tell its length, as of one written to a pipe; save it to a file")
    longer = bytearray(data)
    longer[_FLAC_LENGTH] = (int.from_bytes(data[_FLAC_LENGTH]) | _FLAC_MOST).to_bytes(5)
    with suppress(soundfile.LibsndfileError), soundfile.SoundFile(io.BytesIO(longer)) as file:
        file.seek(stated)
        if len(file.read(1)):
            raise UndecodableItem(
                f"FLAC header says that there are {stated:,} samples, and there are more: it lies; save it again"
            )


def _check_ogg(data: bytes) -> None:
    """Check that the last page is there, whole: without it libsndfile guesses a length."""
    page = data[data.rfind(_OGG_PAGE) :]
    end = _OGG_HEADER + page[_OGG_HEADER - 1] + sum(page[_OGG_HEADER : _OGG_HEADER + page[_OGG_HEADER - 1]])
    if not page[_OGG_FLAGS] & _OGG_LAST or len(page) < end:
        raise _damaged(data, "OGG")


def _read(file: soundfile.SoundFile, kind: str, max_seconds: float) -> Sound:
    if file.format not in _FORMATS:
        raise UndecodableItem(f"sound is {file.format}, not one of WAV, FLAC, OGG and MP3; save it as one of these")
    if not MIN_RATE <= file.samplerate <= MAX_RATE or file.channels > MAX_CHANNELS:
        channels = f"{file.channels} channel{'s' if file.channels > 1 else ''}"
        raise ItemTooLarge(
            f"sound has {channels} of {file.samplerate:,} samples a second, the limits are "
            f"{MAX_CHANNELS} and {MIN_RATE:,} to {MAX_RATE:,}; save it within them"
        )
    if not file.frames:
        raise EmptyItem("sound has no sample; send at least one")
    wanted = min(file.frames, math.ceil(max_seconds * file.samplerate))
    samples = _mono(file, wanted)
    if len(samples) < wanted:
        raise UndecodableItem(
            f"{kind} header says that there are {file.frames:,} samples, and they end after {len(samples):,}: it was "
            "cut short, or the header lies; send the whole file, or save it again"
        )
    if not np.isfinite(samples).all():
        raise UndecodableItem("sound has samples that are NaN or infinite; send finite ones")
    return Sound(samples, file.samplerate, truncated=wanted < file.frames)


def _mono(file: soundfile.SoundFile, n: int) -> NDArray[np.float32]:
    """Decode up to n samples, a block at a time: a header that lies takes no memory."""
    blocks: list[NDArray[np.float32]] = []
    while n > 0:
        block: NDArray[np.float32] = file.read(min(_BLOCK, n), dtype="float32", always_2d=True)
        if not len(block):
            break
        blocks.append(block[:, 0] if file.channels == 1 else block.mean(axis=1))
        n -= len(block)
    return np.concatenate(blocks) if blocks else np.empty(0, np.float32)
