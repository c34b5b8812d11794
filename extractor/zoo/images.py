"""How a published network's images are made, and what a person says of it -> the front of a torch network of images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch

from extractor.errors import ExportError
from extractor.recipes import ImagePreprocess, ResizeCropPreprocess, SquashPreprocess
from extractor.spec import Input
from extractor.zoo.choice import Choice
from extractor.zoo.embedder import ImageEmbedder
from extractor.zoo.front import recipe_of
from extractor.zoo.golden import photos

_FULL = 255.0  # of a byte; published means are of 0 to 1


def image_facts(
    size: int,
    crop_fraction: float,
    interpolation: str,
    mean: Sequence[float],
    std: Sequence[float],
    squashed: bool = False,
) -> dict[str, Any]:
    """Return facts of a recipe, from means and deviations of pixels in 0 to 1, as the published pipelines have it."""
    return {
        "recipe": (SquashPreprocess if squashed else ResizeCropPreprocess).recipe,
        "size": size,
        "crop_fraction": crop_fraction,
        "interpolation": interpolation,
        "mean": tuple(round(_FULL * float(one), 6) for one in mean),
        "std": tuple(round(_FULL * float(one), 6) for one in std),
    }


def image_front(facts: Mapping[str, Any], choice: Choice) -> "ImageFront":
    """Return the front for a network of images; what `choice` says comes first.

    Raises
    ------
    ExportError
        Another modality is asked for, or what is known does not suffice.
    """
    if choice.modality not in (None, "image"):
        raise ExportError(f"modality is {choice.modality!r}, and the network takes images")
    given = {"crop_fraction": 1.0, "interpolation": "bilinear"} | dict(facts) | dict(choice.preprocess or {})
    if missing := [key for key in ("size", "mean", "std") if not given.get(key)]:
        raise ExportError(
            f"say {', '.join(missing)} of the images, on the scale of 0 to 255: --preprocess "
            '\'{"size": 224, "mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]}\''
        )
    return ImageFront(cast(ImagePreprocess, recipe_of("image", given)))


@dataclass(frozen=True)
class ImageFront:
    """What stands before a network of images.

    Parameters
    ----------
    preprocess : ImagePreprocess
    """

    preprocess: ImagePreprocess

    def example(self) -> torch.Tensor:
        """Return an image as the network takes it (1, 3, size, size)."""
        size = self.preprocess.size
        return torch.zeros(1, 3, size, size)

    def embedder(self, network: torch.nn.Module, pooling: str | None = None, **options: Any) -> ImageEmbedder:
        """Return the network with its pixels made of bytes."""
        return ImageEmbedder(network, self.preprocess.mean, self.preprocess.std, pooling=pooling, **options)

    def facts(self) -> dict[str, Any]:
        """Return what the export has to know of the input."""
        size = self.preprocess.size
        return {
            "input": {"image": Input("uint8", ("batch", size, size, 3))},
            "preprocess": self.preprocess,
            "example": {"image": torch.zeros(1, size, size, 3, dtype=torch.uint8).numpy()},
            "items": photos(),
        }
