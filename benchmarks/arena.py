"""Servers that are compared + the items that they embed -> what the load client saw of each, its answers checked.

A server that waits for its turn is stopped (SIGSTOP), so that it cannot spin beside the one that is measured.
"""

import base64
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import load
import numpy as np
import processes
from load import Job, Load
from servers import NotStarted, Server

SAME = 1e-4  # largest difference between embeddings of one backbone
ALIKE = 0.98  # least cosine to fp32 of another precision's


class Broken(Exception):
    """A server met an error in its turn."""


class Shape(NamedTuple):
    """How a server is asked: callers at once, and items in each request."""

    callers: int
    items: int

    def __str__(self) -> str:
        return f"{self.callers} × {self.items}"


@dataclass
class Arena:
    """The servers that run, and those that did not start.

    Parameters
    ----------
    items : sequence of bytes
    truth : callable
        One item -> its embedding (dim,), in fp32.
    folder : Path
        For files of ready-made requests.
    """

    items: Sequence[bytes]
    truth: Callable[[bytes], np.ndarray]
    folder: Path
    servers: list[Server] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.dim = len(self.truth(self.items[0]))

    def enter(self, stack: ExitStack, name: str, starting: AbstractContextManager[Server]) -> None:
        """Start a server and hold it; one that does not start is noted as absent."""
        try:
            server = stack.enter_context(starting)
        except NotStarted as error:
            self.absent[name] = str(error)
            return
        stack.callback(processes.release, server.pid)  # it cannot stop while it is held
        self._hold(server)
        self.servers.append(server)

    def measure(self, server: Server, shape: Shape, seconds: float) -> Load:
        """Give a server its turn, and check what it answered."""
        job = Job(
            endpoint=server.endpoint,
            requests=str(self._requests(server, shape)),
            items=shape.items,
            callers=shape.callers,
            min_bytes=4 * self.dim * shape.items,
            seconds=seconds,
            pid=server.pid,
        )
        processes.release(server.pid)
        try:
            found = load.run(job)
        finally:
            self._hold(server)
        self._check(server, shape, found)
        return found

    def _hold(self, server: Server) -> None:
        if server.may_stop:
            processes.hold(server.pid)

    def check(self, name: str, X: np.ndarray, first: int) -> None:
        """Compare the embeddings of items that follow each other with the truth."""
        expected = np.stack([self.truth(item) for item in self.items[first : first + len(X)]])
        difference = float(np.abs(X - expected).max())
        norms = np.linalg.norm(X, axis=1) * np.linalg.norm(expected, axis=1)
        cosine = float(((X * expected).sum(axis=1) / norms).min())
        right = cosine > ALIKE if "@" in name else difference < SAME
        assert right, f"{name} embeds otherwise: difference {difference:.2g}, cosine {cosine:.4f}"

    def _requests(self, server: Server, shape: Shape) -> Path:
        path, n = self.folder / f"{server.name}-{shape.items}", shape.items
        if not path.exists():
            whole = range(0, len(self.items) - n + 1, n)
            load.write_requests(path, [server.wire.pack(self.items[i : i + n]) for i in whole])
        return path

    def _check(self, server: Server, shape: Shape, found: Load) -> None:
        if found.errors:
            raise Broken(f"{server.name}: {found.errors[0]}")
        assert found.samples, f"{server.name} answered nothing in time"
        for number, answer in found.samples:
            X = server.wire.unpack(base64.b64decode(answer), self.dim)
            assert len(X) == shape.items, f"{server.name} answered {len(X)} rows, not {shape.items}"
            self.check(server.name, X, number * shape.items)


@contextmanager
def arena(items: Sequence[bytes], truth: Callable[[bytes], np.ndarray]) -> Iterator[tuple[Arena, ExitStack]]:
    """Yield an empty arena and the stack to start servers on; they end with the block."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        yield Arena(items, truth, Path(folder)), stack
