"""What the export takes: a network from prepared batches to embeddings (n, dim), and the facts about it."""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from numpy.typing import NDArray

from extractor.outcome import Embedding
from extractor.recipes import Preprocess
from extractor.spec import Input

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


def backbone_name(name: str) -> str:
    """Return a name that a folder, a request and a shell take."""
    return _UNSAFE.sub("-", name).strip("-.") or "network"


@dataclass(frozen=True, eq=False, kw_only=True)
class Network(ABC):
    """A pretrained network, ready for the export; `TorchNetwork` and `OnnxNetwork` are what it comes as.

    Parameters
    ----------
    name, modality, dim, pooling, input, preprocess, source, licence
        As in `extractor.spec.Spec`.
    golden_items : sequence of bytes
        Fixed items by which every session proves itself; of several lengths where these vary.
    files : mapping of str to bytes
        What else the folder holds: the tokenizer of a text network.
    """

    framework: ClassVar[str]  # what the reference runs in
    advice: ClassVar[str] = "try the versions that constraints.txt names"  # where the new graph differs from that

    name: str
    modality: str
    dim: int
    pooling: str
    input: dict[str, Input]
    preprocess: Preprocess
    source: str
    licence: str
    golden_items: Sequence[bytes]
    files: Mapping[str, bytes] = field(default_factory=dict)

    @abstractmethod
    def reference(self, inputs: Mapping[str, NDArray[Any]]) -> Embedding:
        """Return what the untouched network makes of one item: inputs (1, …) as `input` names them -> (1, dim)."""

    @abstractmethod
    def write_onnx(self, path: Path) -> None:
        """Write an ONNX file, the same bytes at every export; raises ExportError.

        Weights that one file cannot hold go into `weights.bin` beside it.
        """
