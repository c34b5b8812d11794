"""SIGKILL at random moments, then again: the union is what an undisturbed dump gives, and what was committed stands."""

import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from extractor.dump import check
from extractor.dump.manifest import read_manifest
from tests.tiny import flat, png

SEED = 7
N_ITEMS = 1500
MAX_LIFE_S = 0.3

# Forks a process for each line that it reads, kills it when it has worked for so long, and says how it ended: it is
# quicker than to start one.
NURSERY = """
import os, signal, sys, time
import onnxruntime, pandas, PIL.Image, tokenizers  # so that a child need not
from extractor import Extractor
from extractor.dump import dump, retry_errors

for line in sys.stdin:
    source, out, work, life_s = line.split()
    begun, begins = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with Extractor.load(sys.argv[1], cache="off") as extractor:
                os.write(begins, b".")
                if work == "dump":
                    dump(source, out, extractor, commit_s=0.03, max_shard_rows=100)
                else:
                    retry_errors(source, out, extractor)
            os._exit(0)
        finally:
            os._exit(1)
    os.read(begun, 1)
    if float(life_s):
        time.sleep(float(life_s))
        os.kill(child, signal.SIGKILL)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    os.close(begun)
    os.close(begins)
"""


class Nursery:
    """Starts dumps, and kills them."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def run(self, source: Path, out: Path, work: str = "dump", *, life_s: float = 0) -> int:
        """Run to the end, or for so long; return how it ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{source} {out} {work} {life_s}\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


@contextmanager
def nursery(backbone: Path) -> Iterator[Nursery]:
    command = [sys.executable, "-c", NURSERY, str(backbone)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Nursery(process)
        finally:
            process.kill()


def committed(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.glob("part-*.parquet")}


def rows(out: Path) -> list[dict]:
    return pq.read_table(sorted(out.glob("part-*.parquet"))).to_pylist()


def texts(path: Path) -> Path:
    path.write_text("\n".join(["text,label", *(f"red cat {'dog ' * (i % 7)}{i},{i % 3}" for i in range(N_ITEMS))]))
    return path


def photos(folder: Path, n: int) -> Path:
    for i in range(n):
        (folder / f"{i % 5}").mkdir(parents=True, exist_ok=True)
        broken = i % 50 == 7
        (folder / f"{i % 5}/{i:04}.png").write_bytes(b"broken" if broken else png(flat(i % 256, i // 256)))
    return folder


def assert_alike(found: list[dict], expected: list[dict]) -> None:
    """Compare rows: embeddings within the precision's tolerance, which batch-mates may move them by."""
    X, Y = ([row.pop("embedding") for row in several] for several in (found, expected))
    assert found == expected
    assert [x is None for x in X] == [y is None for y in Y]
    assert np.allclose([x for x in X if x is not None], [y for y in Y if y is not None], rtol=0, atol=1e-6)


def kill_often(one: Nursery, source: Path, folder: Path, n_kills: int) -> None:
    """Kill dumps so often, and until a killed one had committed something; then let the last one end, and compare."""
    rng = random.Random(SEED)  # noqa: S311
    n_runs = fruitful = n_outs = 0
    while n_runs < n_kills or not fruitful:
        n_runs += 1
        out = folder / f"out-{n_outs}"
        before = committed(out)
        ended = one.run(source, out, life_s=rng.uniform(0, MAX_LIFE_S * (1 + n_runs / n_kills)))
        assert ended in (-signal.SIGKILL, 0)
        after = committed(out)
        assert before.items() <= after.items(), "a committed shard is never touched"
        fruitful += ended != 0 and len(after) > len(before)
        n_outs += ended == 0
    assert one.run(source, folder / f"out-{n_outs}") == 0
    for i in range(n_outs + 1):
        out = folder / f"out-{i}"
        assert check(out).problems == ()
        assert read_manifest(out).complete
        assert_alike(rows(out), rows(folder / "whole"))


def test_what_kills_interrupt_is_ended_as_if_nothing_had_been(tmp_path: Path, tiny_text: Path) -> None:
    source = texts(tmp_path / "texts.csv")
    with nursery(tiny_text) as one:
        assert one.run(source, tmp_path / "whole") == 0
        kill_often(one, source, tmp_path, 2)


@pytest.mark.stress
def test_fifty_kills_of_texts(tmp_path: Path, tiny_text: Path) -> None:
    source = texts(tmp_path / "texts.csv")
    with nursery(tiny_text) as one:
        assert one.run(source, tmp_path / "whole") == 0
        kill_often(one, source, tmp_path, 50)


@pytest.mark.stress
def test_fifty_kills_of_photos_and_of_retries(tmp_path: Path, tiny_image: Path) -> None:
    source = photos(tmp_path / "photos", N_ITEMS)
    with nursery(tiny_image) as one:
        assert one.run(source, tmp_path / "whole") == 0
        kill_often(one, source, tmp_path, 50)
        before = rows(tmp_path / "whole")
        for path in source.rglob("*.png"):
            if path.read_bytes() == b"broken":
                path.write_bytes(png(flat(9)))
        rng = random.Random(SEED)  # noqa: S311
        for _ in range(20):
            one.run(source, tmp_path / "whole", "retry", life_s=rng.uniform(0, MAX_LIFE_S))
        assert one.run(source, tmp_path / "whole", "retry") == 0
    after = rows(tmp_path / "whole")
    assert check(tmp_path / "whole").problems == ()
    assert [row["key"] for row in after] == [row["key"] for row in before]
    assert all(row["embedding"] == [9, 0, 0] for row, former in zip(after, before, strict=True) if former["error"])
    assert all(row == former for row, former in zip(after, before, strict=True) if not former["error"])
