"""What sentence-transformers says of a text network on the Hub -> its pooling, and the projection that stands behind.

`Normalize`, which comes last, is left away: it changes no direction, and a classifier scales its features itself.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from extractor.errors import ExportError
from extractor.zoo.choice import RANDOM, Choice
from extractor.zoo.hub_part import facts_of, file_of, list_of
from extractor.zoo.weights import load_weights, read_weights

_CHAIN = re.compile(r"Transformer Pooling( Dense)*( Normalize)?")
_POOLINGS = {"mean": "mean", "cls": "cls", "max": "max", "lasttoken": "last"}
_OLD = re.compile(r"pooling_mode_(\w+?)(_tokens?)?")  # as it was said before version 6: one key for each, true or false
_ACTIVATIONS = {"Identity", "Tanh", "ReLU", "GELU", "SiLU", "Sigmoid"}  # of torch.nn
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_NEXT = "say --pooling mean, cls, max or last, which takes the network alone"


@dataclass(frozen=True)
class Sentence:
    """How a text is made of its tokens' states.

    Parameters
    ----------
    pooling : str
    projection : tuple of str
        The folders of the linear layers behind it; mostly none.
    """

    pooling: str = "mean"
    projection: tuple[str, ...] = ()


def sentence_of(reference: str, choice: Choice) -> Sentence:
    """Return what a repository says, or the mean; what the user says of pooling and layers takes its place.

    Raises
    ------
    ExportError
        It says what is not made here.
    """
    if choice.pooling:
        return Sentence(choice.pooling)
    modules = [one for one in list_of(reference, "modules.json") if isinstance(one, dict)]
    kinds = [str(one.get("type")).rpartition(".")[2] for one in modules]
    paths = [str(one.get("path")) for one in modules]
    pooling = _pooling(reference, paths[kinds.index("Pooling")] if "Pooling" in kinds else "1_Pooling")
    if choice.layers:
        return Sentence(pooling)
    if modules and not _CHAIN.fullmatch(" ".join(kinds)):
        raise ExportError(f"{reference} was published as {', '.join(kinds)}, which is not made here; {_NEXT}")
    return Sentence(pooling, tuple(path for kind, path in zip(kinds, paths, strict=True) if kind == "Dense"))


def projection_of(reference: str, sentence: Sentence, choice: Choice) -> torch.nn.Module:
    """Return what comes behind the pooling, mostly nothing; raises ExportError where its files do not fit."""
    return torch.nn.Sequential(*(_dense(reference, path, choice) for path in sentence.projection))


def _pooling(reference: str, place: str) -> str:
    facts = facts_of(reference, f"{place}/config.json")
    old = [match[1] for key, said in facts.items() if said is True and (match := _OLD.fullmatch(key))]
    said = facts.get("pooling_mode") or old or "mean"
    modes = said if isinstance(said, list) else [said]
    if len(modes) != 1 or modes[0] not in _POOLINGS:
        raise ExportError(f"{reference} was published with the pooling {', '.join(map(str, modes))}; {_NEXT}")
    return _POOLINGS[modes[0]]


def _dense(reference: str, place: str, choice: Choice) -> torch.nn.Module:
    """Return a linear layer with its activation."""
    facts = facts_of(reference, f"{place}/config.json")
    activation = str(facts.get("activation_function", "Tanh")).rpartition(".")[2]
    places = {facts.get(key) or "sentence_embedding" for key in ("module_input_name", "module_output_name")}
    if activation not in _ACTIVATIONS or facts.get("use_residual") or places != {"sentence_embedding"}:
        raise ExportError(f"{reference} was published with a Dense of {facts}, which is not made here; {_NEXT}")
    linear = torch.nn.Linear(*_widths(reference, place, facts), bias=bool(facts.get("bias", True)))
    if choice.weights != RANDOM:
        path = _weights(reference, place)
        load_weights(linear, {name.removeprefix("linear."): one for name, one in read_weights(path).items()}, path)
    return torch.nn.Sequential(linear, getattr(torch.nn, activation)()).eval()


def _widths(reference: str, place: str, facts: dict[str, Any]) -> tuple[int, int]:
    said = facts.get("in_features"), facts.get("out_features")
    widths = [one for one in said if isinstance(one, int) and one > 0]
    if len(widths) != len(said):
        raise ExportError(f"{reference}: {place}/config.json has no in_features and out_features; {_NEXT}")
    return widths[0], widths[1]


def _weights(reference: str, place: str) -> Path:
    for name in _WEIGHTS:
        if path := file_of(reference, f"{place}/{name}"):
            return path
    raise ExportError(f"{reference} lacks {place}/{' or '.join(_WEIGHTS)}; copy it whole, or {_NEXT}")
