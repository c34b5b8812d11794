"""A network of images on the Hub -> its part for the export: ViT, DINOv2, CLIP's images and others."""

from typing import Any

import torch
import transformers

from extractor.zoo.choice import Choice
from extractor.zoo.embedder import Embedder
from extractor.zoo.hub_part import Part, facts_of
from extractor.zoo.images import image_facts, image_front
from extractor.zoo.taps import Tap

_FILTERS = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers, as preprocessor_config.json has them
_PIXELS = "pixel_values"


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
    resized = _side(told.get("size"))
    size = _side(told.get("crop_size")) if told.get("do_center_crop") else resized
    size = size or resized or _side(config.image_size)
    fraction = min(1.0, size / resized) if size and resized else 1.0
    filter_name = _FILTERS.get(told.get("resample", 2), "bicubic")
    return image_facts(size, fraction, filter_name, told["image_mean"], told["image_std"])


def _side(size: Any) -> int:
    """Return the side of a square in pixels; 0 where it is not told."""
    if isinstance(size, dict):
        size = size.get("shortest_edge") or size.get("height") or 0
    return int(size[0] if isinstance(size, list | tuple) else size or 0)
