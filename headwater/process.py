"""A server in a process of its own: arguments of `headwater serve` -> a running server and its address."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from headwater.errors import ServerNotStarted

STOP_S = 60.0
KEPT = {"HEADWATER_HOME", "HEADWATER_CACHE"}
_READY = re.compile(r"headwater serves .* at (\S+)$")


@dataclass(frozen=True)
class ServerProcess:
    """A running `headwater serve`.

    Parameters
    ----------
    process : subprocess.Popen
    target : str
        `host:port`, for a Client.
    """

    process: "subprocess.Popen[str]"
    target: str

    def stop(self) -> int:
        """Send SIGTERM, and return the exit code once the server has drained."""
        self.process.terminate()
        return self.process.wait(STOP_S)


@contextmanager
def serving(*arguments: str, python: str = sys.executable, cwd: Path | None = None) -> Iterator[ServerProcess]:
    """Run `headwater serve ARGUMENTS --port 0`; the server is stopped when the block ends.

    Of the settings in the environment it has HEADWATER_HOME and HEADWATER_CACHE alone: those of another server, its
    keys, certificates or metrics port, are not for this one.

    Parameters
    ----------
    arguments : str
        Backbones and options.
    python : str
        The interpreter whose Headwater is to serve.
    cwd : Path, optional

    Raises
    ------
    ServerNotStarted
        The server ended before it was ready; the message holds what it printed.
    """
    command = [python, "-m", "headwater", "serve", *arguments, "--port", "0"]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(  # noqa: S603  # ours
            command, stdout=subprocess.PIPE, stderr=log, text=True, cwd=cwd, env=environment()
        )
        try:
            assert process.stdout is not None  # noqa: S101  # for mypy: it was asked for
            ready = _READY.match(process.stdout.readline().strip())
            if ready is None:
                process.wait(STOP_S)
                log.seek(0)
                raise ServerNotStarted(f"the server ended with code {process.returncode}: {log.read().strip()}")
            server = ServerProcess(process, ready[1])
            yield server
            server.stop()
        finally:
            process.kill()
            process.communicate()


def environment() -> dict[str, str]:
    """Return the environment without what would set up a server."""
    return {name: value for name, value in os.environ.items() if name in KEPT or not name.startswith("HEADWATER_")}
