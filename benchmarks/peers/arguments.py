"""The command line of a peer's server: which backbone, which port, how many workers."""

import argparse
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Arguments:
    """What every peer is told."""

    folder: Path
    port: int
    workers: int


def arguments() -> Arguments:
    """Read `--folder FOLDER --port PORT --workers N`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--workers", type=int, required=True)
    given = parser.parse_args()
    return Arguments(given.folder, given.port, given.workers)
