"""Where items come from -> entries, listed as a stream: key, content that is read later, label, what is carried along.

| SOURCE | is | key |
|---|---|---|
| a folder | every file below it; labels are the folders that they stand in | relative path |
| `.csv`, `.jsonl`, `.parquet` with a column `path` | files, beside the table | that path |
| the same with a column `text`, or of bytes | what stands in the rows | row number, from 0 |
| `.tar`, or a folder of them | WebDataset samples | the member; behind the archive's name, in a folder of them |
| a folder of `.parquet` or `.arrow` | what Hugging Face `datasets` keeps | row number, from 0 |
| `-` | a path a line on stdin | the line |

Of a key that comes again the second is followed by `#2`. `s3://…` and others are read by fsspec.
"""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from extractor.errors import SourceInvalid
from extractor.sources.columns import PLAIN, Options
from extractor.sources.entry import Entry, Source
from extractor.sources.folder import EVERY, FolderSource, is_like
from extractor.sources.kinds import (
    ARCHIVE,
    ARCHIVES,
    BYTES,
    FILES,
    LISTED,
    PATHS,
    TEXTS,
    Kind,
    check_modality,
    check_options,
)
from extractor.sources.places import Local, Place, parent_of, place_of, shown

__all__ = ["Entry", "Options", "Source", "open_source"]

STDIN = "-"
PEEKED = 256  # files of a folder: where none of them is one of a data set, it is none
BESIDE = (".json", ".md", ".txt", ".gitattributes")  # what stands beside the files of a data set
PROSE = (".md", ".txt")  # of which
PROSE_BESIDE = 4  # at most: a licence, a description; more are items themselves


def open_source(
    source: str | Path,
    *,
    options: Options = PLAIN,
    pattern: str = EVERY,
    modality: str = "",
    stdin: Iterable[str] | None = None,
) -> Source:
    """Open what a person names.

    Parameters
    ----------
    source : str or Path
        A folder, a table, an archive, a data set, here or at a URL that fsspec knows; or `-`.
    options : Options, optional
        Which columns of a table are what.
    pattern : str, optional
        Of a folder's files: `*.jpg`.
    modality : str, optional
        Of the backbone: which members of an archive are the items.
    stdin : iterable of str, optional
        In place of stdin.

    Raises
    ------
    SourceInvalid
        There is nothing there, or nothing that is known; an option is not for such a source, or the backbone cannot
        read what it holds.
    RuntimeMissing
        fsspec is not installed.
    """
    named = str(source)
    opened, kind = _opened(named, options, pattern, modality, stdin)
    where = "what stdin lists" if named == STDIN else shown(named)
    check_options(where, kind, options, pattern)
    check_modality(where, kind, modality)
    return opened


def _opened(
    named: str, options: Options, pattern: str, modality: str, stdin: Iterable[str] | None
) -> tuple[Source, Kind]:
    if named == STDIN:
        return _listed(stdin, options), LISTED
    if not named:
        raise SourceInvalid("the source's name is empty; name a folder, a table, an archive, or - for stdin")
    place = place_of(named)
    if place.is_folder():
        return _folder(place, options, pattern, modality)
    parent, name = parent_of(named)
    if not parent.is_file(name):
        raise SourceInvalid(f"there is no {shown(named)}; name a folder, a table, an archive, or - for stdin")
    return _file(parent, name, options, modality)


def _listed(stdin: Iterable[str] | None, options: Options) -> Source:
    from extractor.sources.listed import ListSource, lines_of

    stdin = lines_of(sys.stdin.fileno()) if stdin is None else stdin
    return ListSource(stdin, Local(str(Path.cwd())), urls=options.urls)


def _file(place: Place, name: str, options: Options, modality: str) -> tuple[Source, Kind]:
    from extractor.sources import columnar, lines, table, tar

    kind = name.lower()
    if kind.endswith(lines.SUFFIXES):
        rows = table.TableSource(place, name, options)
        return rows, TEXTS if rows.numbered else PATHS
    if kind.endswith((columnar.PARQUET, columnar.ARROW)):
        return _columnar(place, [name], options, alone=True)
    if kind.endswith(tar.SUFFIXES):
        return tar.TarSource(place, [name], modality=modality, alone=True), ARCHIVE
    known = ", ".join((*lines.SUFFIXES, columnar.PARQUET, columnar.ARROW, *tar.SUFFIXES))
    raise SourceInvalid(f"{place}/{name} is none of {known}; name one, a folder, or - for a list on stdin")


def _folder(place: Place, options: Options, pattern: str, modality: str) -> tuple[Source, Kind]:
    from extractor.sources import columnar, tar

    files, n_texts = _files_of(place, ((columnar.PARQUET,), (columnar.ARROW,), tar.SUFFIXES))
    if not any(is_like(file, pattern) for file in files):  # what is beside them may be meant
        return FolderSource(place, pattern=pattern), FILES
    if modality in ("", "text"):  # or nobody says
        _check_few(n_texts, f"{place} holds {n_texts:,} texts beside {files[0]}")
    kind = files[0].lower()
    if kind.endswith(tar.SUFFIXES):
        return tar.TarSource(place, files, modality=modality), ARCHIVES
    if kind.endswith(columnar.ARROW):
        _check_one_split(place, files)
    return _columnar(place, files, options)


def _columnar(place: Place, files: list[str], options: Options, *, alone: bool = False) -> tuple[Source, Kind]:
    from extractor.sources.columnar import ColumnarSource

    rows = ColumnarSource(place, files, options, alone=alone)
    return rows, BYTES if rows.holds_bytes else TEXTS if rows.numbered else PATHS


def _files_of(place: Place, kinds: Sequence[tuple[str, ...]]) -> tuple[list[str], int]:
    """Return the files of one of the kinds, and how many texts are beside; none where there is anything else."""
    found: list[str] = []
    n_texts = 0
    for number, entry in enumerate(FolderSource(place).entries()):
        name = entry.key.lower()
        own = [kind for kind in kinds if name.endswith(kind)]
        if own:
            kinds = own
            found.append(entry.key)
        elif not name.endswith(BESIDE) or (number >= PEEKED and not found):
            return [], 0
        n_texts += name.endswith(PROSE)
    return found, n_texts


def _check_few(n_texts: int, found: str) -> None:
    """Refuse a data set among texts, which would be left out, and which may be what is meant."""
    if n_texts > PROSE_BESIDE:
        raise SourceInvalid(f"{found}; take them with a --pattern, as '*.txt', or move what is not meant elsewhere")


def _check_one_split(place: Place, files: list[str]) -> None:
    """Refuse what `DatasetDict.save_to_disk` wrote: its splits have row numbers of their own."""
    splits = sorted({file.partition("/")[0] for file in files if "/" in file})
    if len(splits) > 1:
        raise SourceInvalid(f"{place} holds the splits {', '.join(splits)}; name one: {place}/{splits[0]}")
