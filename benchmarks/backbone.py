"""A built-in backbone's name -> an installed backbone, exported first where it is missing."""

import subprocess
import sys

from extractor.export import export
from extractor.shelf import installed


def ensure(name: str) -> str:
    """Return the name once its backbone is installed; `NAME@bf16` is made from NAME."""
    if name not in {folder.name for folder in installed()}:
        base, _, precision = name.partition("@")
        if precision:
            ensure(base)
            subprocess.run([sys.executable, "-m", "headwater", "export", base, "--precision", precision], check=True)
        else:
            export(name, progress=print)
    return name
