"""A built-in backbone's name -> an installed backbone, exported first where it is missing."""

from extractor.export import export
from extractor.shelf import installed


def ensure(name: str) -> str:
    """Return the name once its backbone is installed."""
    if name not in {folder.name for folder in installed()}:
        export(name, progress=print)
    return name
