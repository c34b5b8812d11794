"""The installed backbones: a name -> its folder."""

from pathlib import Path

from extractor.errors import BackboneNotFound
from extractor.home import backbones_folder
from extractor.spec import SPEC_FILE


def installed() -> list[Path]:
    """Return the backbone folders under `HEADWATER_HOME`, by name."""
    folder = backbones_folder()
    return sorted(path.parent for path in folder.glob(f"[!.]*/{SPEC_FILE}")) if folder.is_dir() else []


def find_backbone(name_or_folder: str | Path) -> Path:
    """Return the folder of a backbone.

    Parameters
    ----------
    name_or_folder : str or Path
        A name under `HEADWATER_HOME/backbones`; a Path, or a string with a separator, is a folder.

    Raises
    ------
    BackboneNotFound
        There is none; the message lists those that there are, and the command that makes one.
    """
    is_folder = isinstance(name_or_folder, Path) or "/" in name_or_folder or "\\" in name_or_folder
    path = Path(name_or_folder) if is_folder else backbones_folder() / name_or_folder
    if (path / SPEC_FILE).is_file():
        return path
    if is_folder:
        raise BackboneNotFound(f"{path} is no backbone folder: it has no {SPEC_FILE}")
    names = ", ".join(folder.name for folder in installed()) or "none"
    raise BackboneNotFound(
        f"no backbone {name_or_folder!r} in {backbones_folder()} (there: {names}); "
        f"make it: headwater export {_arguments(str(name_or_folder))}"
    )


def _arguments(name: str) -> str:
    """`NAME@bf16` -> what `headwater export` takes."""
    first, _, precision = name.partition("@")
    return f"{first} --precision {precision}" if precision else name
