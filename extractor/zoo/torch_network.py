"""A torch module and the facts about it -> a network for the export."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from numpy.typing import NDArray

from extractor.errors import ExportError
from extractor.outcome import Embedding
from extractor.recipes import Preprocess, modality_of
from extractor.spec import PADDING_INPUTS, Input
from extractor.zoo.axes import pooling_of
from extractor.zoo.choice import NOT_STATED, Choice
from extractor.zoo.network import Network, backbone_name

if TYPE_CHECKING:
    import torch

    from extractor.zoo.embedder import Embedder

SEED = 0  # of random weights
RANDOM_SOURCE = f"random weights, seed {SEED}: only to try the architecture"


@dataclass(frozen=True, eq=False, kw_only=True)
class TorchNetwork(Network):
    """A network in torch; see `Network` for the rest.

    Parameters
    ----------
    module : torch.nn.Module
        Maps the graph's inputs, named as in `input`, to float32 (n, dim). Pixel normalisation, layout change
        and pooling are inside: images come in as uint8 (n, height, width, 3). It is in evaluation mode.
    traced_length : int
        Of the items with which it is traced, where they vary: not 1, and enough for all that it does.
    """

    framework: ClassVar[str] = "torch"

    module: "torch.nn.Module"
    traced_length: int = 2

    def reference(self, inputs: Mapping[str, NDArray[Any]]) -> Embedding:
        """Return what the module makes of one item; raises ExportError."""
        import torch

        try:
            with torch.inference_mode():
                row: torch.Tensor = self.module(**{name: torch.tensor(value) for name, value in inputs.items()})
        except ExportError:
            raise
        except Exception as error:  # a network of anybody's may raise anything
            raise ExportError(f"{self.name} cannot run one item of its own shape: {error}") from error
        if self.dim and row.shape != (1, self.dim):
            raise ExportError(
                f"{self.name} gives {tuple(row.shape)} for an item, and {self.dim} values for another; take a "
                f"--pooling over what varies, not {self.pooling}"
            )
        found: Embedding = row.numpy()
        return found

    def write_onnx(self, path: Path) -> None:
        """Trace the module with torch's exporter; see `extractor.zoo.graph`."""
        from extractor.zoo.graph import write_graph

        write_graph(self, path)


def seeded() -> None:
    """Make the weights that are drawn next the same at every export."""
    import torch

    torch.manual_seed(SEED)


def brought(
    name: str,
    module: "Embedder",
    choice: Choice,
    *,
    input: Mapping[str, Input],
    preprocess: Preprocess,
    example: Mapping[str, NDArray[Any]],
    items: Sequence[bytes],
    source: str,
    licence: str,
    pooling: str | None = None,
    files: Mapping[str, bytes] | None = None,
) -> TorchNetwork:
    """Return a network that somebody brings, its width learnt by running it once.

    Parameters
    ----------
    name : str
        Where `choice` has none.
    module : Embedder
    choice : Choice
        Its name, source, licence and items come before those given here; so does its licence where it has weights.
    example : mapping of str to ndarray
        The inputs for one item.
    pooling : str, optional
        What was taken where nobody said, if not what the layers' shapes suggest.
    input, preprocess, items, source, licence, files
        As in `Network`.

    Raises
    ------
    ExportError
        It cannot run one item, or a pooling was said of rows.
    """
    network = TorchNetwork(
        name=backbone_name(choice.name or name),
        modality=modality_of(preprocess),
        module=module.eval(),
        dim=0,
        pooling="",
        input=dict(input),
        preprocess=preprocess,
        source=source,
        licence=choice.licence if choice.weights or choice.licence != NOT_STATED else licence,
        golden_items=choice.items or items,
        files=files or {},
    )
    (values,) = (value for name, value in example.items() if name not in PADDING_INPUTS)
    shapes: list[tuple[int, ...]] = []
    with module.network.register_forward_hook(lambda *run: shapes.extend(tuple(one.shape) for one in run[-1])):
        row = network.reference(example)
    if len(row) != 1:
        raise ExportError(f"{name} gives {row.shape} for one item; choose layers whose first axis is the batch")
    return replace(
        network,
        dim=row.shape[1],
        pooling=pooling_of(choice.pooling, shapes, pooling),
        traced_length=max(2, *values.shape[1:2]),
    )
