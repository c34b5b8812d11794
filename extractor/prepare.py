"""One item's bytes -> the array that the backbone takes: decode, then preprocess, as the spec says."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray

from extractor.errors import EmptyItem, RuntimeMissing
from extractor.items import check_size
from extractor.limits import Limits
from extractor.recipes import ArrayPreprocess, AudioPreprocess, ImagePreprocess, LogMelPreprocess, TextPreprocess
from extractor.spec import TOKENIZER_FILE, Spec


class Prepared(NamedTuple):
    """One item, ready for a batch.

    An image is uint8 (size, size, 3); a text int64 (n_tokens,); an array is what its spec says; a sound float32
    (n_samples,), or as a log-mel spectrogram (n_frames, n_mels).
    """

    array: NDArray[Any]
    truncated: bool = False


Prepare = Callable[[bytes], Prepared]


def load_prepare(spec: Spec, folder: Path, limits: Limits | None = None) -> Prepare:
    """Return the function that decodes and preprocesses items of a backbone; it raises ItemErrors.

    Parameters
    ----------
    spec : Spec
    folder : Path
        The backbone folder, for its tokenizer.
    limits : Limits, optional
    """
    limits = limits or Limits()
    match spec.preprocess:
        case ImagePreprocess():
            prepare = _images(spec.preprocess, limits)
        case TextPreprocess():
            prepare = _texts(spec.preprocess, folder, limits)
        case ArrayPreprocess():
            prepare = _arrays(spec.preprocess)
        case AudioPreprocess():
            prepare = _sounds(spec.preprocess)

    def bounded(item: bytes) -> Prepared:
        if not item:
            raise EmptyItem("item has 0 bytes; send its content")
        check_size(len(item), limits.max_item_bytes)
        return prepare(item)

    return bounded


# Pillow, tokenizers and soundfile are imported here: a server of texts needs no Pillow, and the reverse.


def _images(facts: ImagePreprocess, limits: Limits) -> Prepare:
    from extractor.decode.image import decode_image
    from extractor.preprocess.image import fit_image

    return lambda item: Prepared(fit_image(decode_image(item, max_pixels=limits.max_pixels), facts))


def _texts(facts: TextPreprocess, folder: Path, limits: Limits) -> Prepare:
    from extractor.decode.text import decode_text
    from extractor.preprocess.text import Tokenize

    tokenize = Tokenize(folder / TOKENIZER_FILE, facts)
    return lambda item: Prepared(*tokenize(decode_text(item, max_bytes=limits.max_text_bytes)))


def _arrays(facts: ArrayPreprocess) -> Prepare:
    from extractor.decode.npy import decode_npy
    from extractor.preprocess.array import fit_array

    return lambda item: Prepared(fit_array(decode_npy(item), facts))


def _sounds(facts: AudioPreprocess) -> Prepare:
    try:
        from extractor.decode.audio import decode_audio
        from extractor.preprocess.audio import to_waveform
    except (ImportError, OSError) as error:  # soundfile raises the latter where its library is not there
        raise RuntimeMissing(f"sounds need soundfile and soxr ({error}): pip install 'headwater[audio]'") from None
    from extractor.preprocess.log_mel import log_mel

    max_seconds = facts.max_samples / facts.sample_rate

    def prepare(item: bytes) -> Prepared:
        sound = decode_audio(item, max_seconds=max_seconds)
        waveform = to_waveform(sound.samples, sound.sample_rate, facts)
        array = log_mel(waveform, facts) if isinstance(facts, LogMelPreprocess) else waveform
        return Prepared(array, sound.truncated)

    return prepare
