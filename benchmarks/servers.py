"""A name -> that server, running on a port of its own with a backbone, two workers for two cores, and no cache."""

import os
import socket
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import processes
import wires
from environment import ENVIRONMENTS, NotInstalled, python_of
from load import Endpoint, ask
from wires import Wire

from extractor.shelf import find_backbone
from headwater.process import serving

PEERS_FOLDER = Path(__file__).parent / "peers"
START_S = 90.0
PEER_MODEL = "backbone"


class NotStarted(Exception):
    """A server did not answer; the message says why, as far as it said."""


@dataclass(frozen=True, kw_only=True)
class Server:
    """A running server.

    Parameters
    ----------
    name : str
    pid : int
        Of the process at the root of its tree.
    target : str
        `host:port`.
    wire : Wire
    may_stop : bool
        It survives to be stopped (SIGSTOP) while others have their turns.
    """

    name: str
    pid: int
    target: str
    wire: Wire
    may_stop: bool = True

    @property
    def endpoint(self) -> Endpoint:
        """Where its requests go."""
        wire = self.wire
        return Endpoint(protocol=wire.protocol, target=self.target, path=wire.path, content_type=wire.content_type)


@dataclass(frozen=True, kw_only=True)
class Peer:
    """Another server: its script in `peers/`, how it is spoken to, and what its environment needs.

    Triton takes a backend that was stopped for dead, and ends; idle, it spends hardly anything.
    """

    wire: Wire
    may_stop: bool = True
    environment: Mapping[str, str] = field(default_factory=dict)


# Triton's binary must find the libpython of the interpreter that its environment was made from.
OWN_LIBRARY = {"LD_LIBRARY_PATH": f"{sysconfig.get_config_var('LIBDIR')}:{os.environ.get('LD_LIBRARY_PATH', '')}"}

PEERS: dict[str, Peer] = {
    "mlserver": Peer(wire=wires.oip(PEER_MODEL)),
    "litserve": Peer(wire=wires.octets("/predict")),
    "pytriton": Peer(wire=wires.oip(PEER_MODEL), may_stop=False, environment=OWN_LIBRARY),
}


@contextmanager
def service(backbone: str, *options: str, name: str = "service") -> Iterator[Server]:
    """Run Headwater with its cache off."""
    with serving(backbone, "--cache", "off", *options) as server:
        wire = wires.headwater(backbone)
        yield Server(name=name, pid=server.process.pid, target=server.target, wire=wire)


@contextmanager
def peer(
    name: str, backbone: str, probe: bytes, *, workers: int, environments: Path = ENVIRONMENTS
) -> Iterator[Server]:
    """Run a peer until the block ends; it has answered one request when the block begins.

    Parameters
    ----------
    name : str
        A key of PEERS.
    backbone : str
    probe : bytes
        An item.
    workers : int
    environments : Path

    Raises
    ------
    NotStarted
        With the last that it printed.
    """
    try:
        python = python_of(name, environments)
    except NotInstalled as error:
        raise NotStarted(str(error)) from None
    port, known = free_port(), PEERS[name]
    given = {"folder": find_backbone(backbone), "port": port, "workers": workers}
    command = [python, PEERS_FOLDER / f"{name}_server.py"]
    command += [part for key, value in given.items() for part in (f"--{key}", str(value))]
    with tempfile.TemporaryDirectory() as cwd, tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, cwd=cwd, env={**os.environ, "PYTHONPATH": "", **known.environment}
        )
        server = Server(
            name=name, pid=process.pid, target=f"127.0.0.1:{port}", wire=known.wire, may_stop=known.may_stop
        )
        try:
            _wait(server, process, known.wire.pack([probe]))
        except NotStarted as error:
            log.seek(0)
            processes.end(process)
            raise NotStarted(f"{error}: {last_lines(log.read())}") from None
        try:
            yield server
        finally:
            processes.end(process)


def _wait(server: Server, process: "subprocess.Popen[bytes]", request: bytes) -> None:
    """Ask until there is an answer."""
    deadline, said = time.monotonic() + START_S, ""
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise NotStarted(f"{server.name} ended with code {process.returncode}")
        try:
            ask(server.endpoint, request)
        except Exception as error:  # what a server that is starting says differs with the protocol
            said = str(error)
            time.sleep(0.5)
        else:
            return
    raise NotStarted(f"{server.name} did not answer within {START_S:g} s: {said[:200]}")


def free_port() -> int:
    """Return a port whose two successors are free too: some peers insist on several."""
    while True:
        with socket.socket() as first:
            first.bind(("127.0.0.1", 0))
            port = first.getsockname()[1]
            if all(map(_is_free, (port + 1, port + 2))):
                return port


def _is_free(port: int) -> bool:
    with socket.socket() as found:
        return found.connect_ex(("127.0.0.1", port)) != 0


def last_lines(text: str) -> str:
    """Return the end of what a process printed, in one line."""
    return " ".join(text.strip()[-400:].split())
