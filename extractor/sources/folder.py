"""A folder, with all below it -> an entry a file, sorted within each folder; the folder that it stands in is its label.

What is hidden is left out. Links are followed, but for those that lead back to a folder on their own way. Memory is
that of the largest folder's names.
"""

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from extractor.errors import ItemError, SourceInvalid, UnreadableItem
from extractor.sources.entry import Entry, printable
from extractor.sources.places import Name, Place

EVERY = "*"
# A folder of such a name that holds nothing was meant for a file, and is told of.
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".npy", ".txt")


class FolderSource:
    """The files of a folder.

    Parameters
    ----------
    place : Place
    pattern : str
        What a file's name has to be like: `*.jpg`.
    """

    numbered = False

    def __init__(self, place: Place, *, pattern: str = EVERY) -> None:
        self.place = place
        self.pattern = pattern
        self.columns: Mapping[str, Any] = {}

    def describe(self) -> dict[str, Any]:
        """Return what it is and where."""
        return {"kind": "folder", "place": str(self.place), "pattern": self.pattern}

    def entries(self) -> Iterator[Entry]:
        """List the files."""
        try:
            names = self.place.names()
        except Exception as error:
            raise SourceInvalid(f"{self.place} cannot be listed: {_said(error)}; name a folder that can") from None
        return self._walk("", (), (), names)

    def count(self) -> int | None:
        """Return how many there are; what is far away is listed once only."""
        if self.place.local_path("") is None:
            return None
        return sum(1 for _ in self.entries())

    def _walk(
        self, folder: str, labels: tuple[str, ...], above: tuple[object, ...], names: Sequence[Name] | None = None
    ) -> Iterator[Entry]:
        outer = labels[-2] if len(labels) > 1 else None  # of the folder itself, where it is told of
        try:
            here = self.place.identity(folder)
            if here in above:
                raise UnreadableItem("it is a link to a folder that it stands in")
            names = self.place.names(folder) if names is None else names
        except Exception as error:  # a remote system raises what it likes
            yield Entry(printable(folder), _unlisted(folder, error), outer)
            return
        if not names and folder.lower().endswith(SUFFIXES):
            yield Entry(printable(folder), UnreadableItem(f"{printable(folder)} is a folder, not a file"), outer)
        for name, is_folder in names:
            path = f"{folder}/{name}" if folder else name
            if is_folder:
                yield from self._walk(path, (*labels, printable(name)), (*above, here))
            elif is_like(path, self.pattern):
                yield Entry(printable(path), self.place.file(path), labels[-1] if labels else None)


def is_like(path: str, pattern: str) -> bool:
    """Tell whether the name at the end of a path is like a pattern."""
    return pattern == EVERY or fnmatchcase(path.rpartition("/")[2], pattern)


def _unlisted(folder: str, error: Exception) -> ItemError:
    return UnreadableItem(f"cannot list the folder {printable(folder)}, nothing in it is here: {_said(error)}")


def _said(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else str(error)) or type(error).__name__
