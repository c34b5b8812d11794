"""An RGB image -> uint8 (size, size, 3): crop and resize in one step."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from extractor.recipes import ImagePreprocess, ResizeCropPreprocess, SquashPreprocess

Box = tuple[float, float, float, float]

_FILTERS = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "lanczos": Image.Resampling.LANCZOS,
    "nearest": Image.Resampling.NEAREST,
}


def fit_image(image: Image.Image, facts: ImagePreprocess) -> NDArray[np.uint8]:
    """Cut the part that the recipe keeps and resize it to `size`.

    `Image.resize(box=…)` does both at once: 1.5 times as fast as resize then crop, and within 1 of 255 of it.

    Returns
    -------
    ndarray of shape (size, size, 3), uint8
    """
    box = _box(image.width, image.height, facts)
    return np.asarray(image.resize((facts.size, facts.size), _FILTERS[facts.interpolation], box=box))


def _box(width: int, height: int, facts: ImagePreprocess) -> Box:
    """Return the left, upper, right and lower edge of what is kept, in pixels of the original."""
    if isinstance(facts, ResizeCropPreprocess):
        return _on_whole_pixels(width, height, facts)
    if isinstance(facts, SquashPreprocess):
        return _centre(width, height, width, height, facts.crop_fraction)
    side = min(width, height)
    return _centre(width, height, side, side, facts.crop_fraction)


def _centre(width: int, height: int, kept_width: int, kept_height: int, fraction: float) -> Box:
    across, down = fraction * kept_width, fraction * kept_height
    left, top = (width - across) / 2, (height - down) / 2
    return left, top, left + across, top + down


def _on_whole_pixels(width: int, height: int, facts: ResizeCropPreprocess) -> Box:
    """Return the edges of a square of whole pixels of the resized image."""
    short = round(facts.size / facts.crop_fraction)
    (left, right), (top, bottom) = (_edges(side, short * side // min(width, height), facts) for side in (width, height))
    return left, top, right, bottom


def _edges(side: int, resized: int, facts: ResizeCropPreprocess) -> tuple[float, float]:
    left_over = resized - facts.size
    begin = left_over // 2 if facts.rounding == "down" else round(left_over / 2)
    return begin * side / resized, min(side, (begin + facts.size) * side / resized)
