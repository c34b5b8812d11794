"""Folders of real labelled data -> items and labels by split: Banking77, CLINC150, clothing, spoken digits."""

import csv
import json
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

DEFAULT = Path(__file__).parents[2] / "shared" / "data"
OUT_OF_SCOPE = "oos"
FSDD_TEST_TAKES = 5


class Split(NamedTuple):
    """Items of one split, texts or paths, and their labels (n,)."""

    items: list[str | Path]
    labels: np.ndarray


def found(folder: Path) -> Path:
    """Return the folder where it is there; end the benchmark otherwise."""
    if not folder.is_dir():
        sys.exit(f"no {folder}: name the folder that holds it with --data")
    return folder


def banking77(data: Path) -> dict[str, Split]:
    """Return train and test, in file order: 77 intents of a bank's customers (Casanueva et al., 2020)."""
    splits = {}
    for name in ("train", "test"):
        with (found(data / "banking77") / f"{name}.csv").open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        splits[name] = Split([row["text"] for row in rows], np.array([row["category"] for row in rows]))
    return splits


def clinc150(data: Path) -> dict[str, Split]:
    """Return train, val and test of 150 intents, and beside each what is none of them (Larson et al., 2019)."""
    content = json.loads((found(data / "clinc150" / "data") / "data_full.json").read_bytes())
    return {
        name: Split([text for text, _ in rows], np.array([label for _, label in rows]))
        for name, rows in content.items()
    }


def clothing(data: Path) -> dict[str, Split]:
    """Return train, validation and test: photos of ten kinds of garment."""
    splits = {}
    for name in ("train", "validation", "test"):
        paths = sorted((found(data / "clothing") / name).glob("*/*"))
        splits[name] = Split(list(paths), np.array([path.parent.name for path in paths]))
    return splits


def fsdd(data: Path) -> dict[str, Split]:
    """Return train and test of spoken digits by six speakers, 8 kHz: the first five takes of each are the test."""
    splits: dict[str, list[Path]] = {"train": [], "test": []}
    for path in sorted((found(data / "fsdd") / "recordings").glob("*.wav")):
        take = int(path.stem.rpartition("_")[2])
        splits["test" if take < FSDD_TEST_TAKES else "train"].append(path)
    return {
        name: Split(list(paths), np.array([path.name.partition("_")[0] for path in paths]))
        for name, paths in splits.items()
    }
