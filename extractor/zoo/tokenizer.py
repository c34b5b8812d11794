"""What lies beside a text network -> its tokenizer, without bounds; how many tokens it reads, and their positions."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from extractor.errors import ExportError
from extractor.spec import TOKENIZER_FILE

CONFIG_FILE = "config.json"
MAX_TOKENS = 512  # where nothing else bounds a text
_POSITIONS = ("max_position_embeddings", "n_positions")
_OFFSET = ("roberta", "camembert", "mpnet", "longformer", "esm")  # whose positions begin behind the padding's
_PADDING = 1  # theirs, where it is not told
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
    positions = n_positions(facts_beside(folder, CONFIG_FILE))
    return least([positions, *(_number(facts_beside(folder, name).get(key)) for name, key in _BOUNDS)])


def n_positions(config: Mapping[str, Any]) -> int | None:
    """Return how many tokens a network has positions for, as its configuration says, if it does."""
    found = next((value for key in _POSITIONS if (value := _number(config.get(key)))), None)
    return int(found) - first_position(config) if found else None


def first_position(config: Mapping[str, Any]) -> int:
    """Return the position of a text's first token: 0, and for RoBERTa and its kin the one behind the padding's id.

    As transformers counts them (`create_position_ids_from_input_ids` in its `modeling_roberta.py`).
    """
    if not any(one in str(config.get("model_type")) for one in _OFFSET):
        return 0
    return int(_number(config.get("pad_token_id", _PADDING)) or 0) + 1


def facts_beside(folder: Path, name: str) -> dict[str, Any]:
    """Return what a JSON file says; nothing where it is not there, or no object."""
    try:
        facts = json.loads((folder / name).read_bytes())
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def least(bounds: Sequence[float | None]) -> int:
    """Return the least of the bounds that are known, and `MAX_TOKENS`."""
    return int(min(bound for bound in (MAX_TOKENS, *bounds) if bound and bound > 0))


def _number(found: Any) -> float | None:
    return found if isinstance(found, int | float) else None
