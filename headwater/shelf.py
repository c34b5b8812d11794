"""Heads by name and version: `HEADWATER_HOME/heads/NAME/VERSION/head.json`, and `aliases.json` beside the versions.

A version is written elsewhere and renamed whole, so that there is no half head; its number is never given again while
a later one is there. `production` is the alias that a name alone means.

Several servers and commands may share a home: what changes it takes turns by a lock, and whoever writes a folder holds
a lock on it, by which others know that its writer lives, also one in another container.
"""

import fcntl
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from extractor.home import heads_folder
from headwater.errors import HeadInUse, HeadNotFound, HeadsNotWritable

HEAD_FILE = "head.json"
ALIASES_FILE = "aliases.json"
PRODUCTION = "production"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_ALIAS = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,99}")
_NUMBER = re.compile(r"[1-9][0-9]{0,8}")
MAX_NUMBER = 999_999_999
SHOWN_NAMES = 10  # in a message

_held: dict[Path, int] = {}  # folders that this process writes -> descriptors that hold their locks


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
            f"{name[:100]!r} is no head's name: letters, digits, '.', '_' and '-', at most 100; choose another"
        )


def head_names() -> list[str]:
    """Return the names under which there is a head, sorted."""
    found = {path.parts[-3] for path in heads_folder().glob(f"*/*/{HEAD_FILE}") if _NUMBER.fullmatch(path.parts[-2])}
    return sorted(name for name in found if _NAME.fullmatch(name))


def versions(name: str) -> list[Version]:
    """Return the versions of a head, the oldest first; none, where there is no head of that name."""
    check_name(name)
    found = (heads_folder() / name).glob(f"*/{HEAD_FILE}")
    numbers = sorted(int(path.parent.name) for path in found if _NUMBER.fullmatch(path.parent.name))
    return [Version(name, number, heads_folder() / name / str(number)) for number in numbers]


def aliases(name: str) -> dict[str, int]:
    """Return the versions that a head's aliases stand for."""
    check_name(name)
    try:
        found = json.loads((heads_folder() / name / ALIASES_FILE).read_bytes())
        return {str(alias): int(number) for alias, number in found.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise HeadNotFound(
            f"{ALIASES_FILE} of head {name!r} is malformed ({type(error).__name__}); delete it, and activate a version "
            "again"
        ) from None


def find_version(reference: str) -> Version:
    """Return the version that `NAME`, `NAME@3` or `NAME@alias` means.

    Raises
    ------
    HeadNotFound
        There is none.
    """
    name, _, which = reference.partition("@")
    if not _NAME.fullmatch(name):
        raise _no_head(name)
    number = int(which) if _NUMBER.fullmatch(which) else aliases(name).get(which or PRODUCTION, 0)
    folder = heads_folder() / name / str(number)
    if 0 < number <= MAX_NUMBER and (folder / HEAD_FILE).is_file():
        return Version(name, number, folder)
    if not (there := versions(name)):
        raise _no_head(name)
    known = few([*(str(version.number) for version in there), *sorted(aliases(name))])
    raise HeadNotFound(
        f"head {name!r} has no version {(which or PRODUCTION)[:100]!r}; there are: {known}; activate one of them"
    )


def few(names: Sequence[str]) -> str:
    """Name the first of many: a message that a call carries has little room."""
    more = f" and {len(names) - SHOWN_NAMES:,} more" if len(names) > SHOWN_NAMES else ""
    return ", ".join(names[:SHOWN_NAMES]) + more


def _no_head(name: str) -> HeadNotFound:
    return HeadNotFound(
        f"there is no head {name[:100]!r}; there are: {few(head_names()) or 'none yet; make one: headwater train'}"
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
    """Make a folder to write a head into, or below; `unstage` ends that. Raises OSError."""
    while True:
        folder = heads_folder() / f".new-{secrets.token_hex(8)}"
        folder.mkdir(parents=True)
        _held[folder] = os.open(folder, os.O_RDONLY)
        fcntl.flock(_held[folder], fcntl.LOCK_SH)
        if folder.exists():  # nobody swept it in the moment before it was locked
            return folder
        os.close(_held.pop(folder))


def unstage(folder: Path) -> None:
    """Remove a folder that was staged, where it is still there; once or more often."""
    shutil.rmtree(folder, ignore_errors=True)
    if (held := _held.pop(folder, None)) is not None:
        os.close(held)


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
        unstage(folder)


def add_version(name: str, staged: Path, *, activate: bool = False) -> Version:
    """Make a written folder the next version of a head; two that end at once get two numbers.

    A number is taken by whatever bears it, also by a folder that holds no head. Where it is to be activated too and
    cannot be, it stays where it was staged.

    Raises
    ------
    HeadNotFound
        That is no head's name.
    OSError
        The shelf cannot be written.
    """
    check_name(name)
    with _alone():
        (heads_folder() / name).mkdir(parents=True, exist_ok=True)
        there = (path.name for path in (heads_folder() / name).iterdir())
        number = max((int(one) for one in there if _NUMBER.fullmatch(one)), default=0) + 1
        place = heads_folder() / name / str(number)
        staged.rename(place)
        if activate:
            try:
                _write_aliases(name, aliases(name) | {PRODUCTION: number})
            except BaseException:
                place.rename(staged)
                raise
    return Version(name, number, place)


def activate(version: Version, alias: str = PRODUCTION) -> int | None:
    """Let an alias stand for a version from now on, and return the number that it stood for.

    Raises
    ------
    HeadNotFound
        That is no alias's name, or the version was deleted meanwhile.
    OSError
        The folder cannot be written.
    """
    if not _ALIAS.fullmatch(alias):
        raise HeadNotFound(
            f"{alias[:100]!r} is no alias: a letter, then letters, digits, '.', '_' and '-', at most 100"
        )
    with _alone():
        if not version.folder.is_dir():
            raise HeadNotFound(f"head {version} was deleted at this moment; activate another version")
        before = aliases(version.name)
        _write_aliases(version.name, before | {alias: version.number})
    return before.get(alias)


def delete_version(version: Version) -> None:
    """Delete a version, and the head with its last one.

    Raises
    ------
    HeadInUse
        An alias stands for it while there are others.
    OSError
        The folder cannot be written.
    """
    with _alone():
        others = [one for one in versions(version.name) if one.number != version.number]
        standing = sorted(alias for alias, number in aliases(version.name).items() if number == version.number)
        if others and standing:
            raise HeadInUse(f"{version} is {few(standing)}; activate another version first, or delete {version.name!r}")
        gone = _taken_away(version.folder if others else version.folder.parent)
    shutil.rmtree(gone, ignore_errors=True)


def delete_head(name: str) -> None:
    """Delete all versions of a head; raises HeadNotFound where there is none, OSError."""
    with _alone():
        if not _NAME.fullmatch(name) or not versions(name):
            raise _no_head(name)
        gone = _taken_away(heads_folder() / name)
    shutil.rmtree(gone, ignore_errors=True)


def sweep() -> None:
    """Remove what processes that are gone had begun and not finished: what nobody holds."""
    for path in heads_folder().glob(".new-*"):
        with suppress(OSError):  # someone holds it, or has just removed it
            looking = os.open(path, os.O_RDONLY)
            try:
                fcntl.flock(looking, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(looking)


def not_writable(error: OSError) -> HeadsNotWritable:
    """Return what a caller of a server is told of a home that cannot be written; no path of it."""
    return HeadsNotWritable(
        f"the server cannot keep heads: {error.strerror or type(error).__name__}; its HEADWATER_HOME needs to be "
        "writable and to have room"
    )


@contextmanager
def _alone() -> Iterator[None]:
    """Change the shelf while no other thread, process or server does; raises OSError where it cannot be written."""
    heads_folder().mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(heads_folder() / ".lock", os.O_RDWR | os.O_CREAT, 0o600)) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _taken_away(folder: Path) -> Path:
    """Rename a folder, so that it is gone in one moment, and return where it is now."""
    gone = heads_folder() / f".new-{secrets.token_hex(8)}"
    return folder.rename(gone)


def _write_aliases(name: str, found: dict[str, int]) -> None:
    path = heads_folder() / name / ALIASES_FILE
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        temporary.write_text(json.dumps(found, indent=1) + "\n")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
