"""A backbone folder -> `Embedder`: JPEG bytes in, embeddings out, by the steps that Headwater takes.

The benchmark checks that the embeddings agree. One thread a session, which does not spin: the callers' threads, one a
core, are what keeps the cores busy.
"""

import io
import json
from collections.abc import Iterable
from pathlib import Path

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
        self._facts = spec["preprocess"]
        (self._input,) = spec["input"]
        self._session = open_session(folder)

    def row(self, jpeg: bytes) -> np.ndarray:
        """Embed one image by itself: on a CPU a batch is slower an image. Returns (dim,) float32."""
        ((row,),) = self._session.run(None, {self._input: self._pixels(jpeg)[None]})
        return row

    def rows(self, jpegs: Iterable[bytes]) -> np.ndarray:
        """Embed images one after the other. Returns (n, dim) float32."""
        return np.stack([self.row(jpeg) for jpeg in jpegs])

    def _pixels(self, jpeg: bytes) -> np.ndarray:
        image = Image.open(io.BytesIO(jpeg)).convert("RGB")
        side = self._facts["crop_fraction"] * min(image.size)
        left, top = (image.width - side) / 2, (image.height - side) / 2
        size = self._facts["size"]
        box = (left, top, left + side, top + side)
        return np.asarray(image.resize((size, size), FILTERS[self._facts["interpolation"]], box=box))
