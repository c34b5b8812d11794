"""A library's name -> its own loop over items in a process of its own: no server between, the best that it can do."""

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import processes
from environment import ENVIRONMENTS, NotInstalled, python_of
from load import Load
from servers import PEERS_FOLDER, NotStarted, last_lines

LOOPS = ("sentence_transformers", "fastembed")  # of texts
PHOTO_LOOPS = ("clip_retrieval",)
BATCH_SIZE = 32


@dataclass(frozen=True)
class Loop:
    """A loop that waits for its turn.

    Parameters
    ----------
    name : str
    process : subprocess.Popen
    X : ndarray of shape (n, dim), float32
        Its embeddings of the first items.
    """

    name: str
    process: "subprocess.Popen[str]"
    X: np.ndarray

    def measure(self, seconds: float) -> Load:
        """Give it its turn of some seconds."""
        return self._asked({"seconds": seconds})

    def embed(self, start: int, end: int) -> Load:
        """Let it embed some of the items in one call."""
        return self._asked({"start": start, "end": end})

    def _asked(self, question: dict[str, float]) -> Load:
        assert self.process.stdin is not None and self.process.stdout is not None
        with suppress(BrokenPipeError):  # it has ended, as there will be no answer
            self.process.stdin.write(json.dumps(question) + "\n")
            self.process.stdin.flush()
        if not (answer := self.process.stdout.readline()):
            raise NotStarted(f"{self.name} ended with code {self.process.wait()} while it embedded")
        found = Load(**json.loads(answer))
        found.memory_mb = processes.memory_mb(self.process.pid)
        return found


@contextmanager
def loop(
    name: str,
    folder: Path,
    items: list[str],
    *,
    workers: int,
    batch_size: int = BATCH_SIZE,
    environments: Path = ENVIRONMENTS,
) -> Iterator[Loop]:
    """Start a library's loop over texts, or paths of photos, and yield it; raises NotStarted with its last words."""
    try:
        python = python_of(name, environments)
    except NotInstalled as error:
        raise NotStarted(str(error)) from None
    with tempfile.TemporaryDirectory() as cwd, tempfile.TemporaryFile("w+") as log:
        file = Path(cwd) / "items.json"
        file.write_text(json.dumps(items))
        given = ["--folder", folder, "--items", file, "--workers", str(workers), "--batch-size", str(batch_size)]
        process = subprocess.Popen(
            [python, PEERS_FOLDER / f"{name}_loop.py", *given],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": ""},
        )
        try:
            assert process.stdout is not None
            if not (first := process.stdout.readline()):
                log.seek(0)
                raise NotStarted(f"{name} ended with code {process.wait()}: {last_lines(log.read())}")
            yield Loop(name, process, np.array(json.loads(first), np.float32))
        finally:
            processes.end(process)
