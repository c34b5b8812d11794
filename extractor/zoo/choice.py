"""What a person chooses of a network that they bring: which layers, how they are pooled, how items become its input."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What is taken of a network, and how it is fed.

    Parameters
    ----------
    name : str, optional
        Of the backbone; by default the file's.
    layers : sequence of str
        Nodes or values; several are concatenated, as in Head2Toe (Evci et al., 2022). By default what the last linear
        layer takes.
    pooling : str, optional
        `gap`, `max`, `mean`, `cls` or `flatten`; by default `gap` for maps of features, `mean` for states of tokens.
    modality : str
        `array`, `audio` or `image`.
    preprocess : mapping
        The facts of `extractor.recipes` that are not known by themselves: `{"sample_rate": 16000, …}`.
    scale : float
        What a waveform is multiplied by, inside the graph: 32768 for a network that takes samples of 16 bits.
    lengths, mask : str, optional
        The network's inputs that take each item's length, or a mask of what is no padding.
    pads : bool
        Items of different lengths share a batch, because by `lengths` or `mask` padding changes nothing: the proof
        tells. Otherwise only items of one length do.
    source, licence : str
        Where the weights come from, and on what terms.
    items : sequence of bytes
        Real items for the proof; by default made up.
    """

    name: str | None = None
    layers: Sequence[str] = ()
    pooling: str | None = None
    modality: str = "array"
    preprocess: Mapping[str, Any] | None = None
    scale: float = 1.0
    lengths: str | None = None
    mask: str | None = None
    pads: bool = False
    source: str = ""
    licence: str = "not stated"
    items: Sequence[bytes] = ()
