"""A way to a server that loses answers: what the client sends arrives, and what comes back is cut off."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

WAIT_S = 10


class Lossy:
    """Forwards connections to a server; `lose` cuts those that there are, once something has happened there."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._server = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.target = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._holding = threading.Event()
        self.n_cut = 0

    def lose(self, has_happened: Callable[[], bool]) -> None:
        """Let nothing come back from now on, and cut the connections when something has happened; then be well."""
        self._holding.set()
        threading.Thread(target=self._cut, args=(has_happened,)).start()

    def run(self) -> None:
        with suppress(OSError):  # it is closed
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server)
                self._pairs.append((client, server))
                threading.Thread(target=self._forward, args=(client, server, False), daemon=True).start()
                threading.Thread(target=self._forward, args=(server, client, True), daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._close_pairs()

    def _cut(self, has_happened: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WAIT_S
        while not has_happened() and time.monotonic() < deadline:
            time.sleep(0.005)
        self.n_cut += 1
        self._close_pairs()
        self._holding.clear()

    def _close_pairs(self) -> None:
        for pair in self._pairs:
            for one in pair:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
                one.close()
        self._pairs.clear()

    def _forward(self, source: socket.socket, sink: socket.socket, is_answer: bool) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if not (is_answer and self._holding.is_set()):
                    sink.sendall(data)


@contextmanager
def lossy(target: str) -> Iterator[Lossy]:
    """Stand between clients and a server."""
    one = Lossy(target)
    thread = threading.Thread(target=one.run)
    thread.start()
    try:
        yield one
    finally:
        one.close()
        thread.join()
