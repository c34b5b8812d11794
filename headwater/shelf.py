"""Heads by name: those under `HEADWATER_HOME/heads`, or folders that are named themselves."""

import re
from pathlib import Path

from extractor.home import heads_folder
from headwater.errors import HeadNotFound

HEAD_FILE = "head.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def installed_heads() -> list[Path]:
    """Return the folders of the heads under HEADWATER_HOME, by name."""
    return sorted(path.parent for path in heads_folder().glob(f"*/{HEAD_FILE}") if not path.parent.name.startswith("."))


def head_folder(name: str) -> Path:
    """Return where a head of a name belongs; raises HeadNotFound for what is no name."""
    if not _NAME.fullmatch(name):
        raise HeadNotFound(
            f"{name!r} is no head's name: letters, digits, '.', '_' and '-', at most 100; choose another"
        )
    return heads_folder() / name


def find_head(name_or_folder: str) -> Path:
    """Return the folder of a head.

    Raises
    ------
    HeadNotFound
        There is none of that name, nor such a folder.
    """
    if (Path(name_or_folder) / HEAD_FILE).is_file():
        return Path(name_or_folder)
    if _NAME.fullmatch(name_or_folder) and (heads_folder() / name_or_folder / HEAD_FILE).is_file():
        return heads_folder() / name_or_folder
    known = ", ".join(folder.name for folder in installed_heads()) or "none yet; make one: headwater train"
    raise HeadNotFound(f"there is no head {name_or_folder!r}; there are: {known}")
