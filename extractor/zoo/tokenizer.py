"""What lies beside a text network -> its tokenizer as one file without bounds, and how many tokens it reads."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from extractor.errors import ExportError
from extractor.spec import TOKENIZER_FILE

MAX_TOKENS = 512  # where nothing else bounds a text
_BOUNDS = (("sentence_bert_config.json", "max_seq_length"), ("tokenizer_config.json", "model_max_length"))


def read_tokenizer(folder: Path) -> bytes:
    """Return a folder's tokenizer without bounds; raises ExportError where there is none that can be read."""
    path = folder / TOKENIZER_FILE
    try:
        content = path.read_bytes()
        Tokenizer.from_buffer(content)
    except OSError as error:
        raise ExportError(
            f"{path} cannot be read: {error.strerror}; put the tokenizer of the network there, as the tokenizers "
            "library saves it"
        ) from None
    except Exception as error:  # the library raises plain Exception
        raise ExportError(f"{path} is no tokenizer, or was cut short ({error}); copy it again") from None
    return without_bounds(content)


def without_bounds(tokenizer: str | bytes) -> bytes:
    """Return a tokenizer's JSON without truncation and padding: the spec alone sets a limit."""
    facts: dict[str, Any] = json.loads(tokenizer)
    return json.dumps({**facts, "truncation": None, "padding": None}, ensure_ascii=False).encode()


def max_tokens(folder: Path) -> int:
    """Return how many tokens a network reads, as the files beside it say."""
    return least([_fact(folder / name, key) for name, key in _BOUNDS])


def least(bounds: Sequence[float | None]) -> int:
    """Return the least of the bounds that are known, and `MAX_TOKENS`."""
    return int(min(bound for bound in (MAX_TOKENS, *bounds) if bound and bound > 0))


def _fact(path: Path, key: str) -> Any:
    try:
        facts = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    found = facts.get(key) if isinstance(facts, dict) else None
    return found if isinstance(found, int | float) else None
