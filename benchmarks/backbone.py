"""A built-in backbone's name -> an installed backbone, exported first where it is missing."""

import subprocess
import sys

from extractor import runtime
from extractor.errors import BackboneError
from extractor.export import export
from extractor.shelf import installed


def ensure(name: str) -> str:
    """Return the name once its backbone is installed; `NAME@bf16` is made from NAME, or ends the benchmark."""
    base, _, precision = name.partition("@")
    if precision:
        _check(name, precision)
    if name not in {folder.name for folder in installed()}:
        if precision:
            ensure(base)
            _derive(base, precision)
        else:
            export(name, progress=print)
    return name


def _check(name: str, precision: str) -> None:
    try:
        runtime.default(precision)
    except BackboneError as error:
        sys.exit(f"{name} is not to be had here: {error}; or name other backbones")


def _derive(base: str, precision: str) -> None:
    """Make it in a process of its own, so that this one holds nothing of it."""
    done = subprocess.run([sys.executable, "-m", "headwater", "export", base, "--precision", precision])
    if done.returncode:
        sys.exit(f"{base}@{precision} could not be made, for the reason above; or name other backbones")
