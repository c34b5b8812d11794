"""A text -> int64 (n_tokens,): token ids, special ones included, cut at the backbone's limit."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from extractor.errors import BackboneInvalid
from extractor.recipes import TextPreprocess


class Tokens(NamedTuple):
    """Token ids (n_tokens,), int64, and whether the text's end was left out."""

    ids: NDArray[np.int64]
    truncated: bool


class Tokenize:
    """Turns texts into token ids; safe to call from many threads.

    Parameters
    ----------
    path : Path
        `tokenizer.json`, as the tokenizers library writes it.
    facts : TextPreprocess
    """

    def __init__(self, path: Path, facts: TextPreprocess) -> None:
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises plain Exception
            raise BackboneInvalid(f"{path} is no tokenizer ({error}); export the backbone again") from None
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(facts.max_tokens)

    def __call__(self, text: str) -> Tokens:
        """Tokenize one text."""
        encoding = self._tokenizer.encode(text)
        return Tokens(np.asarray(encoding.ids, np.int64), bool(encoding.overflowing))
