"""What a dump is of, and its shards <-> `manifest.json`."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from extractor.errors import DumpSpoilt

FORMAT = 1
MANIFEST = "manifest.json"
SHARDS = "part-*.parquet"
_NAME = re.compile(r"part-(\d{5,})(?:-r(\d+))?\.parquet")


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What the embeddings of a dump are: one backbone's, in one precision.

    Parameters
    ----------
    fingerprint, backbone : str
    dim : int
    dtype : {'float32', 'float16'}
    """

    fingerprint: str
    backbone: str
    dim: int
    dtype: str = "float32"


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One committed file.

    Parameters
    ----------
    file : str
    start : int
        Rows of the dump before its own: its place in the source, if the source was not changed since.
    rows, errors : int
    first_key, last_key : str
    digest : str
        Of what the rows of a numbered source were like; see `extractor.dump.row.mark_of`.
    listed : list of [int, float]
        Numbers of rows, and when they were listed (Unix time); see `extractor.dump.row.listed_of`.
    bytes : int
    blake3 : str
        Of the file, as its last two fields are known when it is written.
    """

    file: str
    start: int
    rows: int
    errors: int
    first_key: str
    last_key: str
    digest: str = ""
    listed: list[list[float]] = field(default_factory=list)
    bytes: int = 0
    blake3: str = ""

    @cached_property
    def line(self) -> str:
        """Its line of the manifest, which each commit writes anew with those of all others."""
        return json.dumps(asdict(self))

    @cached_property
    def number(self) -> int:
        """Its place among the shards."""
        return parsed(self.file)[0]

    @property
    def revision(self) -> int:
        """How often it was superseded."""
        return parsed(self.file)[1]


@dataclass(frozen=True)
class Manifest:
    """The whole of `manifest.json`.

    Parameters
    ----------
    origin : Origin
    source : mapping
        What the source was, and where.
    shards : tuple of Shard
        In the order of their rows.
    complete : bool
        The end of the source was reached.
    """

    origin: Origin
    source: Mapping[str, Any]
    shards: tuple[Shard, ...] = field(default=())
    complete: bool = False

    @property
    def rows(self) -> int:
        """Rows of all shards."""
        return sum(shard.rows for shard in self.shards)

    @property
    def errors(self) -> int:
        """Rows that have an error in place of an embedding."""
        return sum(shard.errors for shard in self.shards)

    def with_shard(self, shard: Shard) -> Self:
        """Return it with one more shard, or with one that supersedes another."""
        others = [one for one in self.shards if one.number != shard.number]
        return replace(self, shards=tuple(sorted([*others, shard], key=lambda one: one.number)))

    def as_json(self) -> str:
        """Return the file's content: a line a shard."""
        head = {"format": FORMAT, **asdict(self.origin), "source": dict(self.source)}
        totals = {"rows": self.rows, "errors": self.errors, "complete": self.complete}
        lines = ",\n".join(f"  {shard.line}" for shard in self.shards)
        return f'{json.dumps({**head, **totals})[:-1]}, "shards": [\n{lines}\n]}}\n'


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a dump.

    Raises
    ------
    FileNotFoundError
        There is none.
    DumpSpoilt
        It is not what was written, or of a newer format.
    """
    path = folder / MANIFEST
    try:
        found = json.loads(path.read_bytes())
        if found["format"] > FORMAT:
            raise DumpSpoilt(f"{path} has format {found['format']}, this Headwater reads {FORMAT}; upgrade Headwater")
        origin = Origin(**{one.name: found[one.name] for one in fields(Origin)})
        return Manifest(origin, found["source"], tuple(Shard(**one) for one in found["shards"]), found["complete"])
    except FileNotFoundError:
        raise
    except NotADirectoryError:
        raise DumpSpoilt(f"{folder} is a file, and a dump is a folder; name one") from None
    except OSError as error:
        raise DumpSpoilt(f"{path} cannot be read: {error.strerror}; make it readable") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DumpSpoilt(f"{path} is no manifest of a dump ({type(error).__name__}); {_hint_at(folder)}") from None


def _hint_at(folder: Path) -> str:
    """Tell what to do about a manifest that is none: without a shard beside it, it is likely somebody else's."""
    if any(parsed(file.name)[0] >= 0 for file in folder.glob(SHARDS)):
        return "remove it and run the dump again: it is made anew from the shards"
    return "there is no shard beside it, so it may be of something else; name another folder"


def name_of(number: int, revision: int = 0) -> str:
    """Return the name of a shard's file: `part-00003.parquet`, `part-00003-r1.parquet`."""
    return f"part-{number:05d}{f'-r{revision}' if revision else ''}.parquet"


def parsed(name: str) -> tuple[int, int]:
    """Return the number and the revision that a file's name says; (-1, 0) for a file that is no shard."""
    found = _NAME.fullmatch(name)
    return (int(found[1]), int(found[2] or 0)) if found else (-1, 0)
