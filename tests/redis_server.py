"""A real Redis (or Valkey) of a test's own, on a free port and a socket, which can be stopped, paused and filled."""

import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import redis

WAIT_S = 30


class RedisServer:
    """A server that keeps nothing on disk.

    Parameters
    ----------
    folder : Path
        For its log and its socket.
    """

    def __init__(self, folder: Path) -> None:
        self.port = _free_port()
        self.socket = folder / "redis.sock"
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.client = redis.Redis(port=self.port)
        self._log = folder / "redis.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        program = shutil.which("redis-server") or shutil.which("valkey-server")
        if program is None:
            pytest.fail("the tests of the shared cache start a real Redis: apt-get install redis-server")
        settings = {"port": self.port, "unixsocket": self.socket, "bind": "127.0.0.1", "save": "", "logfile": self._log}
        options = [text for name, value in settings.items() for text in (f"--{name}", str(value))]
        self._process = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + WAIT_S
        while not self._answers():
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.005)

    def stop(self) -> None:
        """Kill it, paused or not; what it held is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(WAIT_S)
            self._process = None

    def pause(self) -> None:
        """Let it accept connections and answer nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def configure(self, **settings: Any) -> None:
        """Set what `CONFIG SET` sets; underscores stand for dashes."""
        for name, value in settings.items():
            self.client.config_set(name.replace("_", "-"), value)

    def fill(self) -> None:
        """Let it refuse whatever is written."""
        self.configure(maxmemory_policy="noeviction", maxmemory=1)  # byte

    def empty(self) -> None:
        """Let it store again."""
        self.configure(maxmemory=0)

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.ConnectionError:
            return False


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
