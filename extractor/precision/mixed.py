"""What makes graphs of a precision, and items -> the graph with the fewest layers left in fp32 that meets a floor."""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from extractor.backbone import Backbone
from extractor.comparison import embed_alone, fidelity_of, in_batches
from extractor.errors import ExportError
from extractor.fidelity import Fidelity, Floor
from extractor.golden import cosines_of
from extractor.outcome import Embedding
from extractor.plan import Plan
from extractor.precision.graphs import Caster
from extractor.spec import MODEL_FILE, Spec
from extractor.zoo.onnx_save import save_onnx

SHOWN = 5  # of the worst layers, in an error
MAX_KEPT = 0.5  # share of the layers; with more in fp32 there is little to gain


class Sensitivity(NamedTuple):
    """A layer, and how far it alone moves the embeddings: 1 - cosine, the mean over items."""

    layer: str
    distance: float


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A graph that meets the floor.

    Parameters
    ----------
    kept : tuple of str
        Layers in fp32, the worst first.
    embeddings : ndarray of shape (n, dim), float32
        Of the held items.
    fidelity : Fidelity
    """

    kept: tuple[str, ...]
    embeddings: Embedding
    fidelity: Fidelity


class _Tried(NamedTuple):
    """A graph that was written, and what it makes of the held items."""

    kept: tuple[str, ...]
    backbone: Backbone
    embeddings: Embedding
    mean: float


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """Graphs of one precision, in one folder, one after the other.

    Parameters
    ----------
    caster : Caster
    folder : Path
        Of the new backbone; each graph takes the former's place.
    scratch : Path
        A folder for files that nobody needs afterwards.
    spec : Spec
        The new backbone's.
    plan : Plan
        How its sessions run.
    reference : Backbone
        In fp32.
    sensed : sequence of ndarray
        Prepared items by which layers are compared.
    held : sequence of ndarray
        Prepared items by which graphs are judged.
    expected : ndarray of shape (n, dim), float32
        The reference's embeddings of the held items.
    tell : callable
    """

    caster: Caster
    folder: Path
    scratch: Path
    spec: Spec
    plan: Plan
    reference: Backbone
    sensed: Sequence[NDArray[Any]]
    held: Sequence[NDArray[Any]]
    expected: Embedding
    tell: Callable[[str], None]

    def fit(self, floor: float) -> Fit:
        """Write the graph that has the fewest of the worst layers in fp32 and meets the floor.

        Layers are ranked by what each alone, in the precision, does to the embeddings of the sensed items.

        Raises
        ------
        ExportError
            None meets the floor; the message names the worst layers. Or embeddings depend on batch-mates.
        """
        tried = self._try(())
        if not tried.mean >= floor:
            tried = self._try(self._fewest(floor, tried.mean))
        fidelity = fidelity_of(tried.embeddings, self.expected, in_batches(tried.backbone, self.held))
        if missed := Floor(mean_cosine=floor, min_cosine=-1.0, neighbours=0.0).misses(fidelity):
            raise ExportError(f"{self.spec.name} is not made: {missed}; stay with fp32")
        return Fit(kept=tried.kept, embeddings=tried.embeddings, fidelity=fidelity)

    def _fewest(self, floor: float, mean: float) -> tuple[str, ...]:
        """Return the worst layers, as few of them as let the others meet the floor."""
        ranked = self.sensitivities()
        worst = tuple(one.layer for one in ranked)
        most = int(MAX_KEPT * len(worst)) if self.caster.mixes else 0
        best = self._try(worst[:most]).mean if most else mean
        if not best >= floor:
            raise ExportError(self._refusal(floor, mean, most, best, ranked))
        return worst[: bisect_left(range(most), True, lo=1, key=lambda n: self._try(worst[:n]).mean >= floor)]

    def sensitivities(self) -> list[Sensitivity]:
        """Return the layers, the one first that moves the embeddings furthest if it alone is in the precision."""
        expected = embed_alone(self.reference, self.sensed)
        spec = replace(self.spec, precision=self.caster.alone_in)
        plan = self.plan if self.caster.alone_in == self.spec.precision else self.reference.plan
        found = []
        for number, layer in enumerate(layers := self.caster.layers, 1):
            self.tell(f"layer {number} of {len(layers)} alone in {self.spec.precision}")
            save_onnx(self.caster.alone(layer), self.scratch / MODEL_FILE)
            alone = embed_alone(Backbone.load(self.scratch, spec, plan), self.sensed)
            distance = 1 - float(cosines_of(alone, expected).mean())
            found.append(Sensitivity(layer, distance if np.isfinite(distance) else np.inf))
        return sorted(found, key=lambda one: -one.distance)

    def _try(self, kept: tuple[str, ...]) -> "_Tried":
        if self.caster.mixes:
            save_onnx(self.caster.graph(kept), self.folder / MODEL_FILE)
        backbone = Backbone.load(self.folder, self.spec, self.plan)
        embeddings = embed_alone(backbone, self.held)
        mean = float(cosines_of(embeddings, self.expected).mean())
        self.tell(f"mean cosine {mean:.5f}" + (f", layers in fp32: {len(kept)}" if kept else ""))
        return _Tried(kept, backbone, embeddings, mean)

    def _refusal(self, floor: float, mean: float, most: int, best: float, ranked: Sequence[Sensitivity]) -> str:
        also = f", and {best:.5f} with the worst {most} of {len(ranked)} layers in fp32" if most else ""
        worst = ", ".join(f"{one.layer} {one.distance:.1e}" for one in ranked[:SHOWN]) or "none has weights"
        return (
            f"{self.spec.name} is not made: on {len(self.held)} held items its mean cosine to fp32 is {mean:.5f}{also},"
            f" below {floor:g}. Worst layers (1 - cosine, each alone): {worst}. Stay with fp32, or lower the "
            f"floor{', or calibrate on more items like yours' if self.spec.precision == 'int8' else ''}"
        )
