"""A backbone folder -> `Embedder`: JPEG bytes in, embeddings out, by the steps that Headwater takes.

The benchmark checks that the embeddings agree. One thread a session, which does not spin: the callers' threads, one a
core, are what keeps the cores busy.
"""

import io
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from session import open_session

FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


class Embedder:
    """One session on a backbone; may be called from many threads at once.

    Parameters
    ----------
    folder : Path
        With `model.onnx` and `spec.json`.
    """

    def __init__(self, folder: Path) -> None:
        spec = json.loads((folder / "spec.json").read_text())
        self.dim: int = spec["dim"]
        self._pixels = pixels_of(spec["preprocess"])
        (self._input,) = spec["input"]
        self._session = open_session(folder)

    def row(self, jpeg: bytes) -> np.ndarray:
        """Embed one image by itself: on a CPU a batch is slower an image. Returns (dim,) float32."""
        ((row,),) = self._session.run(None, {self._input: self._pixels(Image.open(io.BytesIO(jpeg)))[None]})
        return row

    def rows(self, jpegs: Iterable[bytes]) -> np.ndarray:
        """Embed images one after the other. Returns (n, dim) float32."""
        return np.stack([self.row(jpeg) for jpeg in jpegs])


def pixels_of(facts: Mapping[str, Any]) -> Callable[[Image.Image], np.ndarray]:
    """Return the function from an image to uint8 (size, size, 3), as the facts of a spec's `preprocess` say."""

    def pixels(image: Image.Image) -> np.ndarray:
        image = image.convert("RGB")
        side = facts["crop_fraction"] * min(image.size)
        left, top = (image.width - side) / 2, (image.height - side) / 2
        box = (left, top, left + side, top + side)
        return np.asarray(image.resize((facts["size"],) * 2, FILTERS[facts["interpolation"]], box=box))

    return pixels
