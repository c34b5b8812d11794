"""sentence-transformers' own loop on the same ONNX file: its sorting, batching and padding around our graph.

The graph pools by itself, so it enters as a module of its own rather than through `backend="onnx"`, whose wrapper
takes only graphs of tokens. Tuned: a thread a core in its session, which may spin, as nothing else runs.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from loop import run
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules.input_module import InputModule
from session import open_session
from tokenizers import Tokenizer


class Graph(InputModule):
    """The tokenizer and the graph of a backbone folder."""

    def __init__(self, folder: Path, threads: int) -> None:
        super().__init__()
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.enable_truncation(json.loads((folder / "spec.json").read_text())["preprocess"]["max_tokens"])
        self.tokenizer.enable_padding()
        self.session = open_session(folder, threads, spin=True)

    def preprocess(self, inputs: list[str], prompt: str | None = None, **options: Any) -> dict[str, torch.Tensor]:
        """Tokenize a batch."""
        encoded = self.tokenizer.encode_batch(inputs)
        return {
            "input_ids": torch.tensor([one.ids for one in encoded]),
            "attention_mask": torch.tensor([one.attention_mask for one in encoded]),
        }

    def forward(self, features: dict[str, torch.Tensor], **options: Any) -> dict[str, torch.Tensor]:
        """Run the graph."""
        feed = {name: features[name].numpy() for name in ("input_ids", "attention_mask")}
        return {**features, "sentence_embedding": torch.from_numpy(self.session.run(None, feed)[0])}

    def save(self, output_path: str, *args: Any, **options: Any) -> None:
        """Not needed here."""
        raise NotImplementedError


def load(folder: Path, threads: int, batch_size: int) -> Callable[[list[str]], np.ndarray]:
    """Open the model."""
    model = SentenceTransformer(modules=[Graph(folder, threads)], device="cpu")
    return lambda texts: model.encode(texts, batch_size=batch_size, show_progress_bar=False)


if __name__ == "__main__":
    run(load)
