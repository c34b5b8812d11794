"""What of a repository on the Hub becomes a backbone: which class loads it, its inputs, its front end, its pooling."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from extractor.errors import ExportError
from extractor.recipes import Preprocess
from extractor.spec import Input
from extractor.zoo.embedder import Embedder
from extractor.zoo.taps import Tap

Encoder = Callable[[torch.nn.Module], torch.nn.Module]
Run = Callable[[torch.nn.Module], Any]


def _itself(network: torch.nn.Module) -> torch.nn.Module:
    return network


@dataclass(frozen=True, eq=False, kw_only=True)
class Part:
    """What of a repository becomes a backbone.

    Parameters
    ----------
    kind : class of transformers
        What loads it.
    config : PretrainedConfig
        Of that class.
    input, preprocess, items, files
        As in `Network`.
    example : mapping of str to ndarray
        The inputs for one item.
    runs : sequence of callable
        Each runs a network on an item, of another length where items vary.
    embedder : callable
        The tapped network, the network and a pooling -> what the export traces.
    pooling : callable
        The tapped network and the network -> the pooling where nobody says.
    pooler : Tap, optional
        What `--pooling pooler` takes.
    suffix : str
        Of the backbone's name, where a repository has several parts.
    encoder : callable
        The network that was loaded -> the part that is used.
    """

    kind: Any
    config: Any
    input: Mapping[str, Input]
    preprocess: Preprocess
    items: Sequence[bytes]
    example: Mapping[str, NDArray[Any]]
    runs: Sequence[Run]
    embedder: Callable[[torch.nn.Module, torch.nn.Module, str | None], Embedder]
    pooling: Callable[[torch.nn.Module, torch.nn.Module], str]
    pooler: Tap | None = None
    suffix: str = ""
    encoder: Encoder = _itself
    files: Mapping[str, bytes] = field(default_factory=dict)


def file_of(reference: str, name: str) -> Path | None:
    """Return a file of a folder, or of a repository from the cache or the Hub; None where there is none."""
    from transformers.utils import cached_file

    try:
        found = cached_file(
            reference,
            name,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
            _raise_exceptions_for_gated_repo=False,
        )
    except OSError:
        return None
    return Path(found) if found else None


def facts_of(reference: str, name: str) -> dict[str, Any]:
    """Return what a JSON file of a folder or repository says, nothing where there is none; raises ExportError."""
    found = _json(reference, name)
    return found if isinstance(found, dict) else {}


def list_of(reference: str, name: str) -> list[Any]:
    """Return the list that a JSON file holds, as `facts_of` does."""
    found = _json(reference, name)
    return found if isinstance(found, list) else []


def _json(reference: str, name: str) -> Any:
    path = file_of(reference, name)
    try:
        return json.loads(path.read_bytes()) if path else None
    except ValueError as error:
        raise ExportError(f"{path} is not JSON ({error}), or was cut short; copy it again") from None


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from warnings and bars: what they tell is checked, or raised."""
    from transformers.utils import logging

    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()
