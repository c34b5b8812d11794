"""The kinds of sources: which options are for which, so that none is ignored in silence."""

from dataclasses import dataclass

from extractor.errors import SourceInvalid
from extractor.sources.columns import LABEL, Options
from extractor.sources.folder import EVERY

PATTERN, CARRY_TEXT, URLS = "--pattern", "--carry-text", "--urls"
ITEM_COLUMN, PATH_COLUMN, LABEL_COLUMN = "--item-column", "--path-column", "--label-column"
FOR = {
    PATTERN: "a folder whose files are the items",
    ITEM_COLUMN: "a table that holds texts or bytes",
    PATH_COLUMN: "a table that names files",
    LABEL_COLUMN: "a table",
    CARRY_TEXT: "a table that holds texts",
    URLS: "a table or a list that names files",
}


@dataclass(frozen=True)
class Kind:
    """What a source is.

    Parameters
    ----------
    name : str
    takes : frozenset of str
        Options that mean something there.
    """

    name: str
    takes: frozenset[str] = frozenset()


FILES = Kind("a folder of files", frozenset({PATTERN}))
LISTED = Kind("a list of files", frozenset({URLS}))
ARCHIVE = Kind("a tar archive")
ARCHIVES = Kind("a folder of tar archives")
PATHS = Kind("a table that names files", frozenset({PATH_COLUMN, LABEL_COLUMN, URLS}))
TEXTS = Kind("a table that holds texts", frozenset({ITEM_COLUMN, LABEL_COLUMN, CARRY_TEXT}))
BYTES = Kind("a table that holds bytes", frozenset({ITEM_COLUMN, LABEL_COLUMN}))


def check_options(where: str, kind: Kind, options: Options, pattern: str = EVERY) -> None:
    """Refuse options that a source has no use for; raises SourceInvalid."""
    for option, said in _given(options, pattern).items():
        if option not in kind.takes:
            raise SourceInvalid(f"{said} is for {FOR[option]}, and {where} is {kind.name}; leave {option} away")


def check_modality(where: str, kind: Kind, modality: str) -> None:
    """Refuse texts for a backbone that reads something else: not one of them would be embedded."""
    if kind == TEXTS and modality not in ("", "text"):
        raise SourceInvalid(
            f"{where} is {kind.name}, and the backbone reads items of modality {modality}; name the column of their "
            f"files with {PATH_COLUMN}, or take a backbone of texts"
        )


def _given(options: Options, pattern: str) -> dict[str, str]:
    """Return the options that are not as they are by themselves, each as a person gives it."""
    named = {
        PATTERN: pattern if pattern != EVERY else None,
        ITEM_COLUMN: options.item,
        PATH_COLUMN: options.path,
        LABEL_COLUMN: options.label if options.label != LABEL else None,
    }
    flags = {CARRY_TEXT: options.carry_text, URLS: options.urls}
    given = {option: f"{option} {value!r}" for option, value in named.items() if value is not None}
    return given | {option: option for option, value in flags.items() if value}
