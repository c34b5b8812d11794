"""Weights that no ONNX file holds: through torch and through `onnx:`, written, proved, copied, checked and served."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from extractor import Extractor
from extractor.export import export
from extractor.spec import read_spec
from extractor.zoo.choice import Choice
from tests.tiny import npy

TABLES = """
import torch


class Tables(torch.nn.Module):
    def __init__(self, rows, n_tables):
        super().__init__()
        self.tables = torch.nn.ModuleList([torch.nn.Embedding(rows, 128) for _ in range(n_tables)])
        self.head = torch.nn.Linear(128 * n_tables, 2)

    def forward(self, places):
        return self.head(torch.cat([table(places).mean(dim=1) for table in self.tables], dim=1))


def make(rows, n_tables):
    return Tables(rows, n_tables)
"""


@pytest.mark.stress
def test_more_than_two_gigabytes_are_a_backbone_like_any_other(tmp_path: Path) -> None:
    rows, n_tables = 900_000, 5
    (tmp_path / "own.py").write_text(TABLES)
    items = [npy(one) for one in np.random.default_rng(0).integers(0, rows, (7, 3))]
    facts = {"shape": [3], "dtype": "int64"}
    choice = Choice(
        weights="random", preprocess=facts, arguments={"rows": rows, "n_tables": n_tables}, items=items, name="large"
    )
    folder = export(f"torch:{tmp_path / 'own.py'}:make", tmp_path / "torch", choice=choice)
    assert (folder / "weights.bin").stat().st_size > 2 << 30
    spec = read_spec(folder)
    assert sorted(spec.files) == ["golden.npz", "model.onnx", "weights.bin"]

    moved = Path(shutil.move(folder, tmp_path / "moved"))
    with Extractor.load(moved) as extractor:
        X = extractor.extract(items)
    torch.manual_seed(0)
    first = torch.nn.Embedding(rows, 128).weight.detach().numpy()
    places = np.random.default_rng(0).integers(0, rows, (7, 3))
    np.testing.assert_allclose(X[:, :128], first[places].mean(axis=1), atol=1e-6)

    choice = Choice(items=items, preprocess=facts, layers=["embeddings"], name="large")
    again = export(f"onnx:{moved / 'model.onnx'}", tmp_path / "onnx", choice=choice)
    with Extractor.load(again) as extractor:
        np.testing.assert_allclose(extractor.extract(items), X, atol=1e-6)
