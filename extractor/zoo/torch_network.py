"""A torch module and the facts about it -> a network for the export."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from numpy.typing import NDArray

from extractor.outcome import Embedding
from extractor.zoo.network import Network

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False, kw_only=True)
class TorchNetwork(Network):
    """A network in torch; see `Network` for the rest.

    Parameters
    ----------
    module : torch.nn.Module
        Maps the graph's inputs, named as in `input`, to float32 (n, dim). Pixel normalisation, layout change
        and pooling are inside: images come in as uint8 (n, height, width, 3). It is in evaluation mode.
    """

    framework: ClassVar[str] = "torch"

    module: "torch.nn.Module"

    def reference(self, inputs: Mapping[str, NDArray[Any]]) -> Embedding:
        """Return what the module makes of one item."""
        import torch

        with torch.inference_mode():
            row: torch.Tensor = self.module(**{name: torch.tensor(value) for name, value in inputs.items()})
        found: Embedding = row.numpy()
        return found

    def to_onnx(self) -> bytes:
        """Trace the module with torch's exporter; see `extractor.zoo.graph`."""
        from extractor.zoo.graph import trace

        return trace(self)
