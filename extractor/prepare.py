"""One item's bytes -> the array that the backbone takes: decode, then preprocess, as the spec says."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray

from extractor.errors import EmptyItem
from extractor.items import check_size
from extractor.limits import Limits
from extractor.spec import TOKENIZER_FILE, ImagePreprocess, Spec, TextPreprocess


class Prepared(NamedTuple):
    """One item, ready for a batch.

    An image is uint8 (size, size, 3); a text is int64 (n_tokens,).
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

    def bounded(item: bytes) -> Prepared:
        if not item:
            raise EmptyItem("item has 0 bytes; send its content")
        check_size(len(item), limits.max_item_bytes)
        return prepare(item)

    return bounded


# Pillow and tokenizers are imported here, so that a server of texts needs no Pillow, and the reverse.


def _images(facts: ImagePreprocess, limits: Limits) -> Prepare:
    from extractor.decode.image import decode_image
    from extractor.preprocess.image import center_crop

    return lambda item: Prepared(center_crop(decode_image(item, max_pixels=limits.max_pixels), facts))


def _texts(facts: TextPreprocess, folder: Path, limits: Limits) -> Prepare:
    from extractor.decode.text import decode_text
    from extractor.preprocess.text import Tokenize

    tokenize = Tokenize(folder / TOKENIZER_FILE, facts)
    return lambda item: Prepared(*tokenize(decode_text(item, max_bytes=limits.max_text_bytes)))
