"""clip-retrieval's own reader over a folder of photos, in its runner's loop around our ONNX file.

Its mapper, whose place our session takes, loads a CLIP network, and so does its package when it is imported: only the
reader's file is. It opens photos with Pillow in the workers of a torch DataLoader, whose batches go to the session one
after the other. Tuned: a worker a core, a session with a thread a core that does not spin, Pillow's decode and crop as
the spec says. The DataLoader's workers begin and end with each call, as they do with each of its partitions.
"""

import json
from collections.abc import Callable
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from embed import pixels_of
from loop import run
from session import open_session


def reader_module() -> ModuleType:
    """Load clip-retrieval's `reader.py` without the rest of its package."""
    found = find_spec("clip_retrieval")
    assert found is not None and found.submodule_search_locations
    spec = spec_from_file_location("reader", Path(found.submodule_search_locations[0]) / "clip_inference" / "reader.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load(folder: Path, threads: int, batch_size: int) -> Callable[[list[str]], np.ndarray]:
    """Open the session; photos are paths in one folder, in the order of their names."""
    spec = json.loads((folder / "spec.json").read_text())
    (name,) = spec["input"]
    session, reader = open_session(folder, threads), reader_module()
    torch.set_num_threads(1)  # it only carries batches

    def embed(paths: list[str]) -> np.ndarray:
        wanted = {Path(path).name for path in paths}
        batches = reader.FilesReader(
            sampler=lambda keys: [key for key in keys if key in wanted],
            preprocess=pixels_of(spec["preprocess"]),
            tokenizer=None,
            input_dataset=Path(paths[0]).parent,
            batch_size=batch_size,
            num_prepro_workers=threads,
            enable_text=False,
        )
        return np.concatenate([session.run(None, {name: batch["image_tensor"].numpy()})[0] for batch in batches])

    return embed


if __name__ == "__main__":
    run(load)
