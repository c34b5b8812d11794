"""A peer's name -> the Python of an environment of its own, made once from pinned requirements."""

import fcntl
import subprocess
import sys
import venv
from pathlib import Path

REQUIREMENTS = Path(__file__).parent / "peers" / "requirements"
ENVIRONMENTS = Path.home() / ".cache" / "headwater-bench"


class NotInstalled(Exception):
    """A peer's requirements do not install here."""


def python_of(peer: str, environments: Path = ENVIRONMENTS) -> Path:
    """Return the interpreter that has a peer's requirements; pip installs them where they are missing or changed.

    Raises
    ------
    NotInstalled
        With the end of what pip said.
    """
    environments.mkdir(parents=True, exist_ok=True)
    with (environments / f"{peer}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two benchmarks may start at once
        return _installed(environments / peer, REQUIREMENTS / f"{peer}.txt")


def _installed(folder: Path, requirements: Path) -> Path:
    python, done = folder / "bin" / "python", folder / "installed.txt"
    if done.exists() and done.read_text() == requirements.read_text():
        return python
    print(f"installing {folder.name} into {folder}", file=sys.stderr)
    venv.create(folder, clear=True, with_pip=True)
    command = [python, "-m", "pip", "install", "-q", "-r", requirements]
    pip = subprocess.run(command, capture_output=True, text=True)
    if pip.returncode:
        raise NotInstalled(f"{folder.name} does not install: {pip.stderr.strip()[-300:]}")
    done.write_text(requirements.read_text())
    return python
