"""A network of images on the Hub -> its part for the export: ViT, DINOv2, CLIP's images and others."""

from typing import Any

import torch
import transformers

from extractor.errors import ExportError
from extractor.zoo.choice import Choice
from extractor.zoo.embedder import Embedder
from extractor.zoo.hub_part import Part, facts_of
from extractor.zoo.images import image_facts, image_front
from extractor.zoo.taps import Tap

_FILTERS = {
    0: "nearest",
    1: "lanczos",
    2: "bilinear",
    3: "bicubic",
}  # Pillow's numbers
_PIXELS = "pixel_values"
_BYTE = 255.0
_SQUASHED_FROM = 384  # pixels, of networks that say a `crop_pct`


def image_part(reference: str, config: Any, choice: Choice) -> Part:
    """Return the part of a repository that looks at images; raises ExportError where its images are not known."""
    own = getattr(config, "vision_config", config)
    clip = own is not config
    front = image_front(_facts(reference, own), choice)

    def embedder(tapped: torch.nn.Module, _network: torch.nn.Module, pooling: str | None) -> Embedder:
        return front.embedder(tapped, None if pooling == "none" else pooling, argument=_PIXELS)

    facts = front.facts()
    return Part(
        kind=transformers.CLIPVisionModelWithProjection if clip else transformers.AutoModel,
        config=own,
        input=facts["input"],
        preprocess=facts["preprocess"],
        items=facts["items"],
        example=facts["example"],
        runs=[lambda network: network(**{_PIXELS: front.example()})],
        embedder=embedder,
        pooling="none" if clip else "cls" if hasattr(own, "patch_size") else "gap",
        suffix="-image" if clip else "",
        pooler=Tap("visual_projection", takes=True) if clip else Tap("pooler"),
    )


def _facts(reference: str, config: Any) -> dict[str, Any]:
    """Return how images are made, as `preprocessor_config.json` says it; nothing where there is none."""
    told = facts_of(reference, "preprocessor_config.json")
    told = told or facts_of(reference, "processor_config.json").get("image_processor", {})
    if not told.get("image_mean") or not told.get("image_std"):
        return {}
    filter_number = told.get("resample", 2)
    if filter_number not in _FILTERS:
        raise ExportError(f"{reference} resamples images by Pillow's filter {filter_number!r}; those known: {_FILTERS}")
    size, fraction, squashed = _shape(reference, told, config)
    mean, std = (told["image_mean"], told["image_std"]) if told.get("do_normalize", True) else ([0.0] * 3, [1.0] * 3)
    unit = _BYTE * (told.get("rescale_factor", 1 / _BYTE) if told.get("do_rescale", True) else 1.0)
    mean, std = ([value / unit for value in values] for values in (mean, std))
    facts = image_facts(size, fraction, _FILTERS[filter_number], mean, std, squashed)
    return facts if squashed else facts | {"rounding": "down"}


def _shape(reference: str, told: dict[str, Any], config: Any) -> tuple[int, float, bool]:
    """Return the side of an image, the share of the original that is kept, and whether that is out of proportion."""
    asked = told.get("size")
    sides = asked if isinstance(asked, dict) else {}
    if sides.get("height") != sides.get("width"):
        raise ExportError(f"{reference} takes images of {sides}; a backbone's are square: say --preprocess with a size")
    resized = _side(asked)
    cropped = _side(told.get("crop_size")) if told.get("do_center_crop") else 0
    if fraction := told.get("crop_pct"):  # ConvNeXt's: crops small images, and squashes large ones
        large = resized >= _SQUASHED_FROM
        return resized, 1.0 if large else resized / int(resized / fraction), large
    size = cropped or resized or _side(config.image_size)
    squashed = "height" in sides or (isinstance(asked, int) and not cropped)
    return size, min(1.0, size / resized) if resized else 1.0, squashed


def _side(size: Any) -> int:
    """Return the side of a square in pixels; 0 where it is not told."""
    if isinstance(size, dict):
        size = size.get("shortest_edge") or size.get("height") or 0
    return int(size[0] if isinstance(size, list | tuple) else size or 0)
