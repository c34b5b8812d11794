"""Heads by name and version: `HEADWATER_HOME/heads/NAME/VERSION/head.json`, and `aliases.json` beside the versions.

A version is written elsewhere and renamed whole, so that there is no half head; its number is never given again while
a later one is there. `production` is the alias that a name alone means.
"""

import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from extractor.home import heads_folder
from headwater.errors import HeadInUse, HeadNotFound

HEAD_FILE = "head.json"
ALIASES_FILE = "aliases.json"
PRODUCTION = "production"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_ALIAS = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,99}")
_UNFINISHED = re.compile(r"\.new-(\d+)-[0-9a-f]+")


@dataclass(frozen=True)
class Version:
    """One version of a head: its name, its number from 1, and the folder with its `head.json`."""

    name: str
    number: int
    folder: Path

    def __str__(self) -> str:
        return f"{self.name}@{self.number}"


def check_name(name: str) -> None:
    """Raise HeadNotFound for what is no head's name."""
    if not _NAME.fullmatch(name):
        raise HeadNotFound(
            f"{name!r} is no head's name: letters, digits, '.', '_' and '-', at most 100; choose another"
        )


def head_names() -> list[str]:
    """Return the names under which there is a head, sorted."""
    return sorted({path.parts[-3] for path in heads_folder().glob(f"*/*/{HEAD_FILE}") if _NAME.match(path.parts[-3])})


def versions(name: str) -> list[Version]:
    """Return the versions of a head, the oldest first; none, where there is no head of that name."""
    check_name(name)
    found = (heads_folder() / name).glob(f"*/{HEAD_FILE}")
    numbers = sorted(int(path.parent.name) for path in found if path.parent.name.isdecimal())
    return [Version(name, number, heads_folder() / name / str(number)) for number in numbers]


def aliases(name: str) -> dict[str, int]:
    """Return the versions that a head's aliases stand for."""
    check_name(name)
    try:
        found = json.loads((heads_folder() / name / ALIASES_FILE).read_bytes())
        return {str(alias): int(number) for alias, number in found.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError) as error:
        path = heads_folder() / name / ALIASES_FILE
        raise HeadNotFound(f"{path} is malformed ({error}); delete it, and activate a version again") from None


def find_version(reference: str) -> Version:
    """Return the version that `NAME`, `NAME@3` or `NAME@alias` means.

    Raises
    ------
    HeadNotFound
        There is none.
    """
    name, _, which = reference.partition("@")
    if not _NAME.fullmatch(name) or not (there := versions(name)):
        known = ", ".join(head_names()) or "none yet; make one: headwater train"
        raise HeadNotFound(f"there is no head {name!r}; there are: {known}")
    number = int(which) if re.fullmatch(r"[0-9]{1,9}", which) else aliases(name).get(which or PRODUCTION)
    for version in there:
        if version.number == number:
            return version
    known = ", ".join([str(version.number) for version in there] + sorted(aliases(name)))
    raise HeadNotFound(
        f"head {name!r} has no version {which or PRODUCTION!r}; there are: {known}; activate one of them"
    )


def find_head(reference: str) -> Path:
    """Return the folder of a head's version: `NAME`, `NAME@3`, `NAME@alias`, or the folder itself.

    Raises
    ------
    HeadNotFound
        There is none.
    """
    return Path(reference) if (Path(reference) / HEAD_FILE).is_file() else find_version(reference).folder


def title(folder: Path) -> str:
    """Return what people call the head in a folder: `NAME@3` of a version, else the folder's name."""
    folder = folder.resolve()
    return f"{folder.parent.name}@{folder.name}" if folder.name.isdecimal() else folder.name


def stage() -> Path:
    """Make a folder to write a head into, or below; whoever asked for it removes it. Raises OSError."""
    folder = heads_folder() / f".new-{os.getpid()}-{secrets.token_hex(4)}"
    folder.mkdir(parents=True)
    return folder


@contextmanager
def staging() -> Iterator[Path]:
    """Give a folder to write a head into; `add_version` takes it away, and what it did not take is removed.

    Raises
    ------
    OSError
        The folder cannot be made.
    """
    folder = stage()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def add_version(name: str, staged: Path) -> Version:
    """Make a written folder the next version of a head; two that end at once get two numbers.

    Raises
    ------
    HeadNotFound
        That is no head's name.
    OSError
        The folder cannot be renamed.
    """
    check_name(name)
    (heads_folder() / name).mkdir(parents=True, exist_ok=True)
    last = max((version.number for version in versions(name)), default=0)
    for number in count(last + 1):  # one that is taken may be no version: a folder without a head, a file
        place = heads_folder() / name / str(number)
        try:
            staged.rename(place)
        except OSError:
            if not place.exists():
                raise
        else:
            break
    return Version(name, number, place)


def activate(version: Version, alias: str = PRODUCTION) -> None:
    """Let an alias stand for a version from now on.

    Raises
    ------
    HeadNotFound
        That is no alias's name.
    """
    if not _ALIAS.fullmatch(alias):
        raise HeadNotFound(f"{alias!r} is no alias: a letter, then letters, digits, '.', '_' and '-', at most 100")
    _write_aliases(version.name, aliases(version.name) | {alias: version.number})


def delete_version(version: Version) -> None:
    """Delete a version, and the head with its last one.

    Raises
    ------
    HeadInUse
        An alias stands for it while there are others.
    """
    others = [one for one in versions(version.name) if one.number != version.number]
    standing = sorted(alias for alias, number in aliases(version.name).items() if number == version.number)
    if not others:
        delete_head(version.name)
        return
    if standing:
        raise HeadInUse(
            f"{version} is {', '.join(standing)}; activate another version first, or delete {version.name!r}"
        )
    _discard(version.folder)


def delete_head(name: str) -> None:
    """Delete all versions of a head; raises HeadNotFound where there is none."""
    find_version(f"{name}@{versions(name)[-1].number}" if versions(name) else name)
    _discard(heads_folder() / name)


def sweep(*, at_start: bool = False) -> None:
    """Remove what processes that are gone had begun and not finished.

    Parameters
    ----------
    at_start : bool
        This process has begun nothing yet: what bears its number is of an earlier one, as in a container.
    """
    for path in heads_folder().glob(".new-*"):
        match = _UNFINISHED.fullmatch(path.name)
        if match and (not _lives(int(match[1])) or (at_start and int(match[1]) == os.getpid())):
            shutil.rmtree(path, ignore_errors=True)


def _discard(folder: Path) -> None:
    """Delete a folder in one moment, as others see it."""
    gone = heads_folder() / f".new-{os.getpid()}-{secrets.token_hex(4)}"
    folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def _write_aliases(name: str, found: dict[str, int]) -> None:
    path = heads_folder() / name / ALIASES_FILE
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        temporary.write_text(json.dumps(found, indent=1) + "\n")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
