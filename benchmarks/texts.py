"""A tokenizer's vocabulary -> different texts of real words, four of 16 tokens for each of 128, shuffled."""

from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

SHORT, LONG, SHORT_SHARE = 16, 128, 0.8  # tokens, the two special ones among them
N_TEXTS = 2048
SPECIAL = 2


def texts(tokenizer_file: Path, n: int = N_TEXTS) -> list[str]:
    """Return n texts; the tokenizer confirms the length of each."""
    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    tokenizer.no_truncation()
    words = sorted(word for word in tokenizer.get_vocab() if word.isascii() and word.isalpha() and len(word) > 2)
    vocabulary = np.array(words)  # once: `choice` would make an array of a list for each text
    rng = np.random.default_rng(0)
    lengths = np.where(np.arange(n) < round(SHORT_SHARE * n), SHORT, LONG)
    rng.shuffle(lengths)
    made = [" ".join(rng.choice(vocabulary, length - SPECIAL)) for length in lengths]
    assert len(set(made)) == n
    assert [len(one.ids) for one in tokenizer.encode_batch(made)] == lengths.tolist()
    return made
