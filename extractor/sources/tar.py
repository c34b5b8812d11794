"""Tar archives in the WebDataset convention -> an entry a sample: its picture or text, by the member's name.

Members that share a name up to the first dot, and follow each other, are one sample: `0001.jpg`, `0001.cls` (the label)
and `0001.json` (carried along as text). Of an archive on this machine that is not compressed, members are read later
and by several threads; others are read on the way.
"""

import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any

import pyarrow as pa

from extractor.errors import ItemError, ItemTooLarge, SourceInvalid, UnreadableItem
from extractor.sources.entry import Content, Entry, Stored, bytes_of, once_each, printable
from extractor.sources.places import LocalRange, Place, stamp_of

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
IMAGES = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "npy")
TEXTS = ("txt", "text")
LABELS = ("cls", "label")
CARRIED = {"json": "json", "txt": "caption", "text": "caption"}
MAX_BYTES = 256 << 20  # of a member that is read on the way
MAX_SIDE_BYTES = 1 << 20  # of a label, or of what is carried along


@dataclass(frozen=True)
class _Member:
    name: str
    content: bytes | Stored | ItemError

    @property
    def sample(self) -> str:
        folder, slash, name = self.name.rpartition("/")
        return folder + slash + name.partition(".")[0]

    @property
    def kind(self) -> str:
        return self.name.rpartition("/")[2].partition(".")[2].rpartition(".")[2].lower()


class TarSource:
    """The samples of archives.

    Parameters
    ----------
    place : Place
    files : sequence of str
    modality : str
        `text` takes the texts for the items, anything else the pictures, or texts where there are none.
    alone : bool
        The source is the one archive, not the folder, to which others may come.
    """

    numbered = False

    def __init__(self, place: Place, files: Sequence[str], *, modality: str = "", alone: bool = False) -> None:
        self.place = place
        self.files = files
        self.modality = modality
        self.alone = alone
        carried = ("json",) if modality == "text" else ("json", "caption")
        self.columns: Mapping[str, Any] = dict.fromkeys(carried, pa.string())

    def describe(self) -> dict[str, Any]:
        """Return what it is and where."""
        where = f"{self.place}/{self.files[0]}" if self.alone else str(self.place)
        return {"kind": "tar", "place": where, "modality": self.modality}

    def entries(self) -> Iterator[Entry]:
        """List the samples; an archive that breaks off is one more entry, which says so."""
        return once_each(entry for file in self.files for entry in self._archive(file))

    def count(self) -> None:
        """Return None: only reading tells."""

    def _archive(self, file: str) -> Iterator[Entry]:
        before = "" if self.alone else f"{printable(file)}/"
        try:
            for _, members in groupby(self._members(file), key=lambda member: member.sample):
                entry = self._entry(list(members))
                yield entry._replace(key=before + entry.key)
        except (tarfile.TarError, EOFError, OSError, ValueError) as error:
            said = UnreadableItem(f"the archive {printable(file)} cannot be read to its end: {error}")
            yield Entry(printable(file), said)

    def _entry(self, members: list[_Member]) -> Entry:
        item = self._item(members)
        if item is None:
            kinds = ", ".join(f".{member.kind}" for member in members)
            content: Content = UnreadableItem(f"the sample has no picture or text among its members ({kinds})")
            return Entry(printable(members[0].name), content)
        beside = [member for member in members if member is not item]
        label = next((_text(member) for member in beside if member.kind in LABELS), None)
        found = {CARRIED[member.kind]: _text(member) for member in beside if member.kind in CARRIED}
        return Entry(printable(item.name), item.content, label, tuple(found.get(name) for name in self.columns))

    def _item(self, members: list[_Member]) -> _Member | None:
        orders = (TEXTS,) if self.modality == "text" else (IMAGES, TEXTS) if not self.modality else (IMAGES,)
        return next((member for kinds in orders for member in members if member.kind in kinds), None)

    def _members(self, file: str) -> Iterator[_Member]:
        local = self.place.local_path(file)
        with ExitStack() as stack:
            raw = stack.enter_context(self._opened(file))
            range_of = None
            if local is not None and file.lower().endswith(".tar"):
                range_of = partial(LocalRange, local, stamp=stamp_of(raw.fileno()))
            archive = stack.enter_context(tarfile.open(fileobj=raw, mode="r|*" if range_of is None else "r:"))
            while (info := archive.next()) is not None:
                archive.members = []  # type: ignore[attr-defined]  # it would remember every one
                if info.isdir():
                    continue
                content = self._content(archive, info, range_of)
                yield _Member(info.name, content)

    def _opened(self, file: str) -> Any:
        try:
            return self.place.open(file)
        except OSError as error:
            raise SourceInvalid(f"{self.place}/{file} cannot be read: {error.strerror}; mend it") from None

    def _content(
        self, archive: tarfile.TarFile, info: tarfile.TarInfo, range_of: Callable[..., Stored] | None
    ) -> bytes | Stored | ItemError:
        if not info.isreg():
            return UnreadableItem(f"{printable(info.name)} is a link or a device in the archive, not a file")
        if range_of is not None and not info.issparse():
            return range_of(start=info.offset_data, n_bytes=info.size)
        if info.size > MAX_BYTES:
            return ItemTooLarge(f"item has {info.size:,} bytes, the limit is {MAX_BYTES:,}; send a smaller one")
        file = archive.extractfile(info)
        assert file is not None  # noqa: S101  # for mypy: it is a regular one
        return file.read()


def _text(member: _Member) -> str | None:
    if isinstance(member.content, ItemError):
        return None
    try:
        return bytes_of(member.content, MAX_SIDE_BYTES).decode(errors="replace").strip()
    except ItemError:
        return None
