"""fastembed's own loop on the same ONNX file, as a custom model whose pooling is in the graph.

Tuned: a thread a core in its session; it pads to the longest of a batch and does not sort.
"""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from fastembed import TextEmbedding
from fastembed.common.model_description import ModelSource, PoolingType
from loop import run

NAME = "headwater/backbone"


def load(folder: Path, threads: int, batch_size: int) -> Callable[[list[str]], np.ndarray]:
    """Lay out a folder as fastembed wants it, and open it."""
    spec = json.loads((folder / "spec.json").read_text())
    laid_out = Path(tempfile.mkdtemp())
    for name in ("model.onnx", "tokenizer.json"):
        (laid_out / name).symlink_to(folder / name)
    config = {"model_max_length": spec["preprocess"]["max_tokens"], "pad_token": "[PAD]"}
    (laid_out / "tokenizer_config.json").write_text(json.dumps(config))
    TextEmbedding.add_custom_model(
        NAME,
        pooling=PoolingType.DISABLED,
        normalization=False,
        sources=ModelSource(url="none"),
        dim=spec["dim"],
        model_file="model.onnx",
    )
    model = TextEmbedding(NAME, threads=threads, specific_model_path=str(laid_out))
    return lambda texts: np.stack(list(model.embed(texts, batch_size=batch_size)))


if __name__ == "__main__":
    run(load)
