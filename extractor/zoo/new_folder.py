"""A target folder -> a temporary sibling to fill; it takes the target's place whole, or leaves nothing."""

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from extractor.errors import ExportError
from extractor.spec import GOLDEN_FILE, MODEL_FILE, PLAN_FILE, SPEC_FILE, TOKENIZER_FILE, WEIGHTS_FILE

_OURS = {SPEC_FILE, MODEL_FILE, GOLDEN_FILE, TOKENIZER_FILE, WEIGHTS_FILE, PLAN_FILE}


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Yield an empty hidden folder beside `target`; on success it is renamed to `target`, else it is deleted.

    An older backbone folder is replaced by two renames, so that a reader finds the old one or the new one, or for
    the moment between them none, and never a mixture.

    Raises
    ------
    ExportError
        `target` is no folder, or holds what is not a backbone's: it would be lost.
    """
    target = target.resolve()
    _check_replaceable(target)  # rather now than after minutes of work
    mark = secrets.token_hex(4)
    fresh, aside = (target.with_name(f".{target.name}.{mark}.{kind}") for kind in ("new", "old"))
    fresh.mkdir(parents=True)
    try:
        yield fresh
        _replace(target, fresh, aside)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(aside, ignore_errors=True)


def _check_replaceable(target: Path) -> None:
    if not target.exists():
        return
    if not target.is_dir():
        raise ExportError(f"{target} is a file, not a folder; choose another place")
    strangers = sorted(path.name for path in target.iterdir() if path.name not in _OURS)
    if strangers:
        raise ExportError(f"{target} holds {strangers[0]!r}, which is no part of a backbone; choose an empty folder")


def _replace(target: Path, fresh: Path, aside: Path) -> None:
    _check_replaceable(target)
    if target.exists():
        target.rename(aside)
    try:
        fresh.rename(target)
    except OSError:
        if aside.exists():
            aside.rename(target)
        raise
