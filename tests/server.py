"""A real server in a process of its own, on a free port."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

READY = re.compile(r"^headwater serves .* at (\S+)$")
STOP_S = 60


class Server:
    """A running `headwater serve`.

    Parameters
    ----------
    process : subprocess.Popen
    target : str
        `host:port`.
    """

    def __init__(self, process: "subprocess.Popen[str]", target: str) -> None:
        self.process = process
        self.target = target

    def stop(self) -> int:
        """Send SIGTERM and return the exit code."""
        self.process.terminate()
        return self.process.wait(STOP_S)


@contextmanager
def serving(*arguments: str, python: str = sys.executable, env: dict[str, str] | None = None) -> Iterator[Server]:
    """Run `headwater serve ARGUMENTS --port 0`; fails with what it printed when it does not come up."""
    command = [python, "-m", "headwater", "serve", *arguments, "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    try:
        assert process.stdout is not None
        found = READY.match(process.stdout.readline().strip())
        assert found, process.stderr.read() if process.stderr else ""
        yield Server(process, found[1])
    finally:
        process.kill()
        process.communicate()
