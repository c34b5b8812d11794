"""A network for a runtime that computes in bf16 by itself: the file stays as it is, and no layer can be left out."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

# onnx is imported where layers are compared: what meets the floor needs none.


class Bf16:
    """The network of an ONNX file.

    Parameters
    ----------
    path : Path
    """

    mixes = False
    alone_in = "fp32"

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers with weights."""
        from extractor.precision.graphs import load, weighted

        return tuple(node.name for node in weighted(load(str(self.path))))

    def graph(self, _kept: Collection[str]) -> Any:
        """Return the network as it is."""
        from extractor.precision.graphs import load

        return load(str(self.path))

    def alone(self, layer: str) -> Any:
        """Return the network where what one layer takes is rounded to bf16."""
        from extractor.precision.graphs import load
        from extractor.precision.rounding import BF16, rounded_at

        return rounded_at(load(str(self.path)), layer, BF16)
