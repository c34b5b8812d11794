"""A network of images on the Hub -> its part for the export: ViT, DINOv2, CLIP's images and others."""

from typing import Any, cast

import numpy as np
import torch
import transformers
from PIL import Image

from extractor.errors import ExportError
from extractor.preprocess.image import fit_image
from extractor.recipes import ImagePreprocess
from extractor.zoo.choice import Choice
from extractor.zoo.embedder import Embedder
from extractor.zoo.front import recipe_of
from extractor.zoo.golden import photo_files
from extractor.zoo.hub_part import Part, Run, facts_of, quiet
from extractor.zoo.images import image_facts, image_front
from extractor.zoo.taps import Tap

_FILTERS = {
    0: "nearest",
    1: "lanczos",
    2: "bilinear",
    3: "bicubic",
}  # Pillow's numbers
_ALL = {"size", "mean", "std"}  # what suffices where the publisher says nothing
_NEXT = f"say how they are made: --preprocess with {', '.join(sorted(_ALL))}, and recipe and crop_fraction where needed"
_LEVIT = 256 / 224  # of the side, to which it resizes before it crops
_ROUNDING = 0.5  # of 255, on average over a photo: resizing and cropping in one step gives 0.3, another filter 1
_TOKENS_AXES = 3
_CLASS_TOKENS = ("cls_token", "class_embedding")  # as networks call the parameter
_MEAN_FIRST = ("dinov3_convnext",)  # which put the mean of the states before them
_PIXELS = "pixel_values"
_BYTE = 255.0
_SQUASHED_FROM = 384  # pixels, of networks that say a `crop_pct`


def image_part(reference: str, config: Any, choice: Choice) -> Part:
    """Return the part of a repository that looks at images; raises ExportError where its images are not known."""
    own = getattr(config, "vision_config", config)
    clip = own is not config
    front = image_front(_facts(reference, choice), choice)

    def embedder(tapped: torch.nn.Module, _network: torch.nn.Module, pooling: str | None) -> Embedder:
        by_axes = choice.pooling is None and pooling != "cls"  # of each layer, which may differ
        return front.embedder(tapped, None if by_axes else pooling, argument=_PIXELS)

    def run(network: torch.nn.Module) -> Any:
        return network(**{_PIXELS: front.example()})

    facts = front.facts()
    return Part(
        kind=transformers.CLIPVisionModelWithProjection if clip else transformers.AutoModel,
        config=own,
        input=facts["input"],
        preprocess=facts["preprocess"],
        items=facts["items"],
        example=facts["example"],
        runs=[run],
        embedder=embedder,
        pooling=lambda tapped, network: _pooling(_values(tapped, run), network),
        suffix="-image" if clip else "",
        pooler=Tap("visual_projection", takes=True) if clip else Tap("pooler"),
    )


def _values(tapped: torch.nn.Module, run: Run) -> list[torch.Tensor]:
    """Return what layers give for an image; raises ExportError."""
    try:
        with torch.inference_mode():
            values: list[torch.Tensor] = run(tapped)
    except ExportError:
        raise
    except Exception as error:  # of transformers and torch: they share no root
        raise ExportError(
            f"the network cannot run an image: {error}; say with --preprocess the size of those that it takes"
        ) from error
    return values


def _pooling(values: list[torch.Tensor], network: torch.nn.Module) -> str:
    """Return the pooling of what layers give for an image: the class token's state, where there is such a token."""
    n_axes = max(one.ndim for one in values)
    if n_axes == _TOKENS_AXES:
        return "cls" if _has_class_token(network) else "mean"
    return "gap" if n_axes > _TOKENS_AXES else "none"


def _has_class_token(network: torch.nn.Module) -> bool:
    model_type = getattr(getattr(network, "config", None), "model_type", None)
    return model_type in _MEAN_FIRST or any(name.endswith(_CLASS_TOKENS) for name, _ in network.named_parameters())


def _facts(reference: str, choice: Choice) -> dict[str, Any]:
    """Return how images are made, as their publisher has it; nothing where nobody says it, or the user says all."""
    try:
        return _published(reference)
    except ExportError:
        if set(choice.preprocess or {}) >= _ALL:
            return {}
        raise


def _published(reference: str) -> dict[str, Any]:
    """Return the recipe of what transformers' own class makes of images, compared with it on photos."""
    if not (facts_of(reference, "preprocessor_config.json") or facts_of(reference, "processor_config.json")):
        return {}
    try:
        with quiet():
            processor = transformers.AutoImageProcessor.from_pretrained(
                reference, backend="pil", trust_remote_code=False
            )
    except Exception as error:  # of files, of the Hub, of transformers: they share no root
        told = " ".join(str(error).split())[:300]
        raise ExportError(f"transformers cannot make the images of {reference}: {told}; {_NEXT}") from None
    facts = _recipe(reference, processor.to_dict())
    _check_same(reference, processor, facts)
    return facts


def _recipe(reference: str, told: dict[str, Any]) -> dict[str, Any]:
    number = told.get("resample", 2)
    if number not in _FILTERS:
        raise ExportError(f"{reference} resamples images by Pillow's filter {number!r}; those known: {_FILTERS}")
    size, fraction, squashed = _shape(reference, told)
    facts = image_facts(size, fraction, _FILTERS[number], *_scale(told), squashed)
    return facts if squashed else facts | {"rounding": "down"}


def _scale(told: dict[str, Any]) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation, of pixels in 0 to 1; EfficientNet's divides a second time."""
    normalised = bool(told.get("do_normalize"))
    times = normalised + bool(told.get("include_top"))
    unit = _BYTE * (told["rescale_factor"] if told.get("do_rescale") else 1.0)
    offset = 1.0 if told.get("do_rescale") and told.get("rescale_offset") else 0.0
    means, stds = (told.get(key) or [1.0] * 3 for key in ("image_mean", "image_std"))
    return [(normalised * mean + offset) / unit for mean in means], [std**times / unit for std in stds]


def _shape(reference: str, told: dict[str, Any]) -> tuple[int, float, bool]:
    """Return the side of an image, the share of the original that is kept, and whether that is out of proportion."""
    sides = told.get("size") or {}
    if sides.get("height") != sides.get("width"):
        raise ExportError(f"{reference} takes images of {sides}; a backbone's are square: say --preprocess with a size")
    side = sides.get("shortest_edge") or sides.get("height") or 0
    cropped = (told.get("crop_size") or {}).get("height") if told.get("do_center_crop") else None
    if fraction := told.get("crop_pct"):  # ConvNeXt's: crops small images, and squashes large ones
        large = side >= _SQUASHED_FROM
        return side, 1.0 if large else side / int(side / fraction), large
    if told.get("image_processor_type") == "LevitImageProcessor":
        side = int(_LEVIT * side)
    size = cropped or side
    return size, min(1.0, size / side) if side else 1.0, "height" in sides


def _check_same(reference: str, processor: Any, facts: dict[str, Any]) -> None:
    """Check on photos that the recipe makes of images what transformers makes of them, but for rounding."""
    recipe = cast(ImagePreprocess, recipe_of("image", facts))
    mean, std = np.array(recipe.mean), np.array(recipe.std)
    for path in photo_files():
        with Image.open(path) as photo:
            image = photo.convert("RGB")
        theirs = np.asarray(processor(image)["pixel_values"][0]).transpose(1, 2, 0) * std + mean
        made = fit_image(image, recipe)
        if made.shape != theirs.shape or np.abs(made - theirs).mean() > _ROUNDING:
            name = type(processor).__name__.removesuffix("Pil")
            raise ExportError(f"{reference} prepares images by {name} in a way that no recipe has; {_NEXT}")
