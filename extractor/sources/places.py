"""A folder, here or behind fsspec -> the names in it, and its files.

`Local` and `Remote` have the same verbs; paths inside are relative and have `/`. What is remote comes from the
operator's command line, never from a caller of the service.
"""

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

from extractor.errors import RuntimeMissing, SourceInvalid, UnreadableItem
from extractor.items import check_size
from extractor.sources.entry import Stored, printable

SCHEME = "://"
_SECRET = re.compile(r"(?<=//)[^/]*@|\?.*")  # of a URL: what stands before its host, and its query
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}

Stamp = tuple[int, int]  # of a file: its bytes, and when it was changed (ns); another file has another


class Name(NamedTuple):
    """A name in a folder, and whether it is a folder itself."""

    name: str
    is_folder: bool


@dataclass(frozen=True)
class LocalFile:
    """A file of this machine; see `Stored`."""

    path: str

    def read(self, max_bytes: int) -> bytes:
        """Return the file's bytes; nothing but a file is read, for a pipe would never end."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            with open(descriptor, "rb", buffering=0) as file:  # by its descriptor
                facts = os.fstat(descriptor)
                if not stat.S_ISREG(facts.st_mode):
                    kind = _KINDS.get(stat.S_IFMT(facts.st_mode), "something else")
                    raise UnreadableItem(f"cannot read {printable(self.path)}: it is {kind}, not a file")
                check_size(facts.st_size, max_bytes)
                data = file.read(facts.st_size)
                changed = stamp_of(descriptor) != (len(data), facts.st_mtime_ns)
        except (OSError, ValueError) as error:  # ValueError: no name of a file, as a table may have it
            raise UnreadableItem(f"cannot read {printable(self.path)}: {_why(self.path, error)}") from None
        if changed:
            raise UnreadableItem(f"{printable(self.path)} was changed while it was read; try it again")
        return data

    def changed_at(self) -> float:
        """Return when it was changed (Unix time); 0 where nobody can tell."""
        try:
            return os.stat(self.path).st_mtime
        except (OSError, ValueError):
            return 0.0


@dataclass(frozen=True)
class LocalRange:
    """A run of bytes within a file of this machine, a member of an archive, while it has its stamp; see `Stored`."""

    path: str
    start: int
    n_bytes: int
    stamp: "Stamp"

    def read(self, max_bytes: int) -> bytes:
        """Return the bytes."""
        check_size(self.n_bytes, max_bytes)
        try:
            with open(self.path, "rb", buffering=0) as file:  # not a Path each
                data = os.pread(file.fileno(), self.n_bytes, self.start)
                changed = stamp_of(file.fileno()) != self.stamp
        except OSError as error:
            raise UnreadableItem(f"cannot read {printable(self.path)}: {_why(self.path, error)}") from None
        if changed:
            raise UnreadableItem(f"{printable(self.path)} was changed while it was read; try it again")
        if len(data) != self.n_bytes:
            raise UnreadableItem(
                f"{printable(self.path)} is cut short: it ends {self.n_bytes - len(data):,} bytes too early"
            )
        return data


@dataclass(frozen=True)
class RemoteFile:
    """A file behind fsspec; see `Stored`."""

    system: Any
    path: str

    def read(self, max_bytes: int) -> bytes:
        """Return the file's bytes."""
        try:
            data = cast(bytes, self.system.cat_file(self.path, end=max_bytes + 1))
        except Exception as error:  # each file system raises what it likes
            raise UnreadableItem(f"cannot read {shown(self.path)}: {_said(error)}") from None
        check_size(len(data), max_bytes)
        return data


@dataclass(frozen=True)
class Local:
    """A folder of this machine."""

    root: str

    def __str__(self) -> str:
        return printable(self.root)

    def names(self, folder: str = "") -> list[Name]:
        """Return what is in a folder but for what is hidden, in the order of the names; raises OSError."""
        with os.scandir(self._path(folder)) as found:
            return sorted(Name(one.name, _is_folder(one)) for one in found if not one.name.startswith("."))

    def identity(self, folder: str) -> object:
        """Return what tells a folder that was reached by links; raises OSError."""
        facts = os.stat(self._path(folder))
        return facts.st_dev, facts.st_ino

    def is_folder(self, path: str = "") -> bool:
        """Tell whether a folder is there."""
        return os.path.isdir(self._path(path))

    def is_file(self, path: str = "") -> bool:
        """Tell whether a file is there."""
        return os.path.isfile(self._path(path))

    def file(self, path: str) -> Stored:
        """Return a file to be read later."""
        return LocalFile(self._path(path))

    def open(self, path: str) -> IO[bytes]:
        """Open a file; raises OSError."""
        return open(self._path(path), "rb")  # whose caller closes it

    def local_path(self, path: str) -> str | None:
        """Return a file's path on this machine."""
        return self._path(path)

    def _path(self, path: str) -> str:
        return os.path.join(self.root, path) if path else self.root


@dataclass(frozen=True)
class Remote:
    """A folder behind fsspec."""

    system: Any
    root: str
    url: str

    def __str__(self) -> str:
        return shown(self.url)

    def names(self, folder: str = "") -> list[Name]:
        """Return what is in a folder but for what is hidden, in the order of the names; raises OSError."""
        path = self._path(folder)
        self.system.invalidate_cache(path)  # whoever shares it has listed the folder at another time
        found = self.system.ls(path, detail=True)
        self.system.invalidate_cache(path)  # it would keep every listing, in memory that grows with the files
        named = (Name(one["name"].rstrip("/").rpartition("/")[2], one["type"] == "directory") for one in found)
        return sorted(one for one in named if one.name and not one.name.startswith("."))

    def identity(self, folder: str) -> object:
        """Return the folder's path: there are no links."""
        return folder

    def is_folder(self, path: str = "") -> bool:
        """Tell whether a folder is there."""
        return bool(self.system.isdir(self._path(path)))

    def is_file(self, path: str = "") -> bool:
        """Tell whether a file is there."""
        return bool(self.system.isfile(self._path(path)))

    def file(self, path: str) -> Stored:
        """Return a file to be read later."""
        return RemoteFile(self.system, self._path(path))

    def open(self, path: str) -> IO[bytes]:
        """Open a file; raises OSError."""
        return cast(IO[bytes], self.system.open(self._path(path), "rb"))

    def local_path(self, path: str) -> str | None:
        """Return None: it is not on this machine."""
        return None

    def _path(self, path: str) -> str:
        return f"{self.root.rstrip('/')}/{path}" if path else self.root


Place = Local | Remote


def stamp_of(descriptor: int) -> Stamp:
    """Return the stamp of an open file of this machine."""
    facts = os.fstat(descriptor)
    return facts.st_size, facts.st_mtime_ns


def is_remote(path: str) -> bool:
    """Tell whether a path is for fsspec: `s3://bucket/folder`."""
    return SCHEME in path


def place_of(path: str) -> Place:
    """Return a folder, which need not be there.

    Raises
    ------
    SourceInvalid
        There is no file system of that scheme.
    RuntimeMissing
        fsspec, or the package that it needs for the scheme, is not installed.
    """
    if not is_remote(path):
        return Local(str(Path(path).absolute()))
    try:
        from fsspec.core import url_to_fs
    except ModuleNotFoundError:
        raise RuntimeMissing(
            "remote paths need fsspec, which is not installed: pip install 'headwater[dump]'"
        ) from None
    try:
        system, root = url_to_fs(path)
    except ImportError as error:
        raise RuntimeMissing(f"fsspec cannot open {shown(path)}: {error}") from None
    except ValueError as error:
        raise SourceInvalid(f"fsspec cannot open {shown(path)}: {error}; name a scheme that it knows") from None
    return Remote(system, root, path)


def parent_of(path: str) -> tuple[Place, str]:
    """Return the folder that a file stands in, and the file's name there."""
    folder, _, name = path.rstrip("/").rpartition("/")
    if is_remote(path):
        return place_of(folder), name
    whole = Path(path).absolute()
    return place_of(str(whole.parent)), whole.name


def shown(url: str) -> str:
    """Return a URL without its passwords."""
    return _SECRET.sub("", url)


def _is_folder(one: "os.DirEntry[str]") -> bool:
    try:
        return one.is_dir()
    except OSError:  # a link that leads to itself: reading it tells
        return False


def _why(path: str, error: OSError | ValueError) -> str:
    if isinstance(error, ValueError):
        return "it is no name that a file can have"
    if isinstance(error, FileNotFoundError) and os.path.islink(path):
        return f"it links to {printable(os.readlink(path))}, which is not there"
    if isinstance(error, FileNotFoundError):
        return "it is not there; it was moved or removed"
    return error.strerror or type(error).__name__


def _said(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "it is not there"
    return f"{type(error).__name__}: {shown(str(error))[:200]}".rstrip(": ")
