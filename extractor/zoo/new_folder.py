"""A target folder -> a temporary sibling to fill; it takes the target's place whole, or leaves nothing.

Whoever fills one holds a lock on it, by which others know that the writer lives, also one in another container. What a
kill leaves, the next export into the same place sweeps.
"""

import errno
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from extractor.errors import ExportError
from extractor.spec import GOLDEN_FILE, MODEL_FILE, PLAN_FILE, SPEC_FILE, TOKENIZER_FILE, WEIGHTS_FILE

_TAKEN = (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST)  # what a rename meets where another was faster
_OURS = {SPEC_FILE, MODEL_FILE, GOLDEN_FILE, TOKENIZER_FILE, WEIGHTS_FILE, PLAN_FILE}
_NEW, _OLD = "new", "old"
_TEMPORARY = re.compile(rf"\.(?P<name>.+)\.[0-9a-f]{{8}}\.(?P<kind>{_NEW}|{_OLD})")


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Yield an empty hidden folder beside `target`; on success it is renamed to `target`, else it is deleted.

    An older backbone folder is replaced by two renames, so that a reader finds the old one or the new one, or for
    the moment between them none, and never a mixture. What killed exports left beside `target` is removed first; a
    backbone that one of them had moved aside is back in its place.

    Raises
    ------
    ExportError
        `target` was made by another export meanwhile, is no folder, or holds what is not a backbone's.
    """
    target = target.resolve()
    _sweep(target.parent)
    _check_replaceable(target)  # and again when it is replaced: an export takes minutes
    aside = _sibling(target, _OLD)
    with ExitStack() as locks:
        fresh = _begin(target, locks)
        try:
            yield fresh
            _replace(target, fresh, aside, locks)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
            shutil.rmtree(aside, ignore_errors=True)


def _sibling(target: Path, kind: str) -> Path:
    return target.with_name(f".{target.name}.{secrets.token_hex(4)}.{kind}")


def _begin(target: Path, locks: ExitStack) -> Path:
    while True:
        fresh = _sibling(target, _NEW)
        fresh.mkdir(parents=True)
        with suppress(FileNotFoundError):
            locks.enter_context(_held(fresh))
        if fresh.exists():  # nobody swept it in the moment before it was locked
            return fresh


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold a lock on a folder, wherever it is moved."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # where folders cannot be locked, nothing is swept either
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


def _sweep(folder: Path) -> None:
    """Remove what exports that were killed had begun or moved aside, but for a backbone that has no other place."""
    for path in folder.glob(".*"):
        if found := _TEMPORARY.fullmatch(path.name):
            with suppress(OSError):  # its writer lives, or somebody has just removed it
                _take_up(path, path.with_name(found["name"]), found["kind"])


def _take_up(path: Path, target: Path, kind: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _strangers(path):  # somebody's own, which is only called so
            return
        if kind == _OLD and not target.exists():
            path.rename(target)
        else:
            shutil.rmtree(path, ignore_errors=True)
    finally:
        os.close(descriptor)


def _strangers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name not in _OURS)


def _check_replaceable(target: Path) -> None:
    try:
        strangers = _strangers(target)
    except FileNotFoundError:
        return
    except NotADirectoryError:
        raise ExportError(f"{target} is a file, not a folder; choose another place") from None
    if strangers:
        raise ExportError(f"{target} holds {strangers[0]!r}, which is no part of a backbone; choose an empty folder")


def _replace(target: Path, fresh: Path, aside: Path, locks: ExitStack) -> None:
    _check_replaceable(target)
    try:
        _swap(target, fresh, aside, locks)
    except OSError as error:
        if error.errno not in _TAKEN:
            raise
        raise ExportError(
            f"{target} was made by another export at the same time, and nothing was written by this one; run it again"
        ) from None


def _swap(target: Path, fresh: Path, aside: Path, locks: ExitStack) -> None:
    if target.exists():
        locks.enter_context(_held(target))  # it will be `aside`
        target.rename(aside)
    try:
        fresh.rename(target)
    except BaseException:  # Ctrl-C too: the old one is better than none
        if aside.exists() and not target.exists():
            aside.rename(target)
        raise
