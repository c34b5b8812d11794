"""Heads and labelled items for the tests of the service."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from classifiers.head import Calibration, Head, Rejection
from classifiers.persist import Manifest, save_head
from classifiers.preparation import Preparation
from classifiers.scorer import Layers
from headwater import shelf
from headwater.shelf import Version
from tests.tiny import png

COLOURS = ("red", "green", "blue")


def coloured(colour: int, seed: int) -> bytes:
    """Return a noisy image with more of one colour; its tiny embedding is about 50, and 150 in that channel."""
    pixels = np.random.default_rng(seed).integers(0, 100, (8, 8, 3), np.uint8)
    pixels[..., colour] += 100
    return png(pixels)


def examples(n: int) -> tuple[list[bytes], list[str]]:
    """Return n items and their labels."""
    return [coloured(i % 3, i) for i in range(n)], [COLOURS[i % 3] for i in range(n)]


def keep(
    name: str,
    fingerprint: str,
    *,
    labels: Sequence[str] = COLOURS,
    kind: str = "single",
    threshold: float | None = None,
    backbone: str = "tiny-image",
    activate: bool = True,
) -> Version:
    """Keep a head that tells which channel (3,) is the strongest."""
    scorer = Layers(Preparation("UN", np.zeros(3), 1.0), (np.eye(3) / 10,), (np.full(3, -10.0),))
    rejection = None if threshold is None else Rejection("confidence", threshold, "by hand")
    head = Head(kind, np.array(labels), scorer, Calibration.none(3), rejection)
    manifest = Manifest(backbone=backbone, fingerprint=fingerprint, dim=3, created="2026-01-01T00:00:00+00:00")
    with shelf.staging() as folder:
        save_head(folder, head, manifest)
        version = shelf.add_version(name, folder)
    if activate:
        shelf.activate(version)
    return version


def left_over(home: Path) -> list[Path]:
    """Return what is staged in a home."""
    return list((home / "heads").glob(".new-*"))
