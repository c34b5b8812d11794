"""A source whose items take their time, or their reader's process; what is in a dump, and whether two are alike."""

import os
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from extractor import Extractor
from extractor.dump import dump
from extractor.sources import Entry

N_ITEMS = 600
BROKEN = 50  # every so many


@dataclass(frozen=True)
class Text:
    """Content that takes its time, or takes its reader's process with it: once where there is a path to remember it."""

    text: str
    seconds: float = 0.0
    kills: str | None = None

    def read(self, max_bytes: int) -> bytes:
        time.sleep(self.seconds)
        if self.kills is not None and not (self.kills and Path(self.kills).exists()):
            if self.kills:
                Path(self.kills).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return self.text.encode()


class Slow:
    """Texts, of which some are empty; the keys tell of their places."""

    columns: Mapping[str, Any] = {}
    numbered = False

    def __init__(self, *, seconds: float = 0.01, kills: str | None = None) -> None:
        self._seconds = seconds
        self._kills = kills

    def describe(self) -> dict[str, Any]:
        return {"kind": "slow", "place": "here"}

    def entries(self) -> Iterator[Entry]:
        for i in range(N_ITEMS):
            text = "" if i % BROKEN == 7 else f"red cat {'dog ' * (i % 7)}{i}"
            yield Entry(f"{i:04}", Text(text, self._seconds, self._kills if i == N_ITEMS // 2 else None), f"{i % 3}")

    def count(self) -> int:
        return N_ITEMS


def rows(out: Path) -> list[dict]:
    return pq.read_table(sorted(out.glob("part-*.parquet"))).to_pylist()


def assert_alike(found: list[dict], expected: list[dict]) -> None:
    """Compare rows: embeddings within the precision's tolerance, which batch-mates may move them by."""
    X, Y = ([row.pop("embedding") for row in several] for several in (found, expected))
    assert found == expected
    assert [x is None for x in X] == [y is None for y in Y]
    assert np.allclose([x for x in X if x is not None], [y for y in Y if y is not None], rtol=0, atol=1e-6)


def dumped_here(backbone: Path, source: Any, out: Path) -> Path:
    with Extractor.load(backbone, cache="off") as extractor:
        dump(source, out, extractor)
    return out
