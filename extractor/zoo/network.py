"""What the export takes: a torch module from prepared batches to embeddings (n, dim), and the facts about it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from extractor.recipes import Preprocess
from extractor.spec import Input

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False, kw_only=True)
class Network:
    """A pretrained network, ready for the export.

    Parameters
    ----------
    name, modality, dim, pooling, input, preprocess, source, licence
        As in `extractor.spec.Spec`.
    module : torch.nn.Module
        Maps the graph's inputs, named as in `input`, to float32 (n, dim). Pixel normalisation, layout change
        and pooling are inside: images come in as uint8 (n, height, width, 3). It is in evaluation mode.
    golden_items : sequence of bytes
        Fixed items by which every session proves itself; of several lengths where these vary.
    files : mapping of str to bytes
        What else the folder holds: the tokenizer of a text network.
    """

    name: str
    modality: str
    module: "torch.nn.Module"
    dim: int
    pooling: str
    input: dict[str, Input]
    preprocess: Preprocess
    source: str
    licence: str
    golden_items: Sequence[bytes]
    files: Mapping[str, bytes] = field(default_factory=dict)
