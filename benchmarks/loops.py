"""A library's name -> its own loop over texts in a process of its own: no server between, the best that it can do."""

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import processes
from environment import ENVIRONMENTS, NotInstalled, python_of
from load import Load
from servers import PEERS_FOLDER, NotStarted, last_lines

LOOPS = ("sentence_transformers", "fastembed")


@dataclass(frozen=True)
class Loop:
    """A loop that waits for its turn.

    Parameters
    ----------
    name : str
    process : subprocess.Popen
    X : ndarray of shape (n, dim), float32
        Its embeddings of the first texts.
    """

    name: str
    process: "subprocess.Popen[str]"
    X: np.ndarray

    def measure(self, seconds: float) -> Load:
        """Give it its turn."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps({"seconds": seconds}) + "\n")
        self.process.stdin.flush()
        found = Load(**json.loads(self.process.stdout.readline()))
        found.memory_mb = processes.memory_mb(self.process.pid)
        return found


@contextmanager
def loop(
    name: str, folder: Path, texts: list[str], *, workers: int, environments: Path = ENVIRONMENTS
) -> Iterator[Loop]:
    """Start a library's loop and yield it; raises NotStarted with the last that it printed."""
    try:
        python = python_of(name, environments)
    except NotInstalled as error:
        raise NotStarted(str(error)) from None
    with tempfile.TemporaryDirectory() as cwd, tempfile.TemporaryFile("w+") as log:
        file = Path(cwd) / "texts.json"
        file.write_text(json.dumps(texts))
        given = ["--folder", folder, "--texts", file, "--workers", str(workers)]
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
