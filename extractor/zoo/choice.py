"""What a person chooses of a network that they bring: which layers, how they are pooled, how items become its input."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

NOT_STATED = "not stated"
PENULTIMATE = "penultimate"
RANDOM = "random"  # weights drawn with a fixed seed: to try an architecture where its weights cannot be had


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What is taken of a network, and how it is fed.

    Parameters
    ----------
    name : str, optional
        Of the backbone; by default the file's.
    layers : sequence of str
        Nodes or values; several are concatenated, as in Head2Toe (Evci et al., 2022), each once. By default what the
        last linear layer takes.
    pooling : str, optional
        `gap`, `max`, `mean`, `cls` or `flatten`, and for texts `last` or `pooler`; by default `gap` for maps of
        features, `mean` for states of tokens, or what a network on the Hub was published with.
    modality : str, optional
        `array`, `audio`, `image` or `text`; by default what the network tells, else `array`.
    weights : str, optional
        A file of weights, in safetensors or as torch saves a state dict; or `random`. By default those that were
        published.
    sha256 : str, optional
        Of that file, or as many of its first digits as are known; another is refused. Without a file, of what
        torchvision published.
    arguments : mapping
        What the network is made with: `{"num_classes": 14}`.
    preprocess : mapping
        The facts of `extractor.recipes` that are not known by themselves: `{"sample_rate": 16000, …}`.
    scale : float
        What a waveform, or an array for a network of floats, is multiplied by, inside the graph: 32768 for a network
        that takes samples of 16 bits.
    lengths, mask : str, optional
        The network's inputs that take each item's length, or a mask of what is no padding.
    pads : bool
        Items of different lengths share a batch, because by `lengths` or `mask` padding changes nothing: the proof
        tells. Otherwise only items of one length do.
    source, licence : str
        Where the weights come from, and on what terms; by default what the publisher says of its own.
    items : sequence of bytes
        Real items for the proof; by default made up.
    """

    name: str | None = None
    layers: Sequence[str] = ()
    pooling: str | None = None
    modality: str | None = None
    weights: str | None = None
    sha256: str | None = None
    arguments: Mapping[str, Any] | None = None
    preprocess: Mapping[str, Any] | None = None
    scale: float = 1.0
    lengths: str | None = None
    mask: str | None = None
    pads: bool = False
    source: str = ""
    licence: str = NOT_STATED
    items: Sequence[bytes] = ()
