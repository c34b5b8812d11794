"""SOURCE, OUT and an extractor -> a dump, or the rest of one: the library's own `headwater dump`."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread

from extractor.dump.counts import Counts
from extractor.dump.flow import Flow, Told
from extractor.dump.folder import DumpFolder, open_folder
from extractor.dump.manifest import MANIFEST, Origin, read_manifest
from extractor.dump.resume import not_yet_dumped
from extractor.dump.verb import LocalVerb, StreamingVerb
from extractor.dump.writer import COMMIT_S, MAX_ROWS, Writer
from extractor.errors import DumpRefused, SourceInvalid
from extractor.pipeline import Extractor
from extractor.sources import Source, open_source
from extractor.stages import StageTimes

FLOAT32 = "float32"


def dump(
    source: Source | str | Path,
    out: str | Path,
    extractor: Extractor | StreamingVerb,
    *,
    dtype: str | None = None,
    moved: bool = False,
    stop: Event | None = None,
    told: Told = bool,
    commit_s: float = COMMIT_S,
    max_shard_rows: int = MAX_ROWS,
) -> Counts:
    """Embed every item of a source, and keep the embeddings in Parquet shards; what is there already is not done again.

    Parameters
    ----------
    source : Source, str or Path
        As `extractor.sources.open_source` takes it.
    out : str or Path
        A folder that is empty, not there, or holds a dump of this source by this backbone: then the rest is done.
    extractor : Extractor or StreamingVerb
    dtype : {'float32', 'float16'}, optional
        By default as it is there already, else float32.
    moved : bool
        The source is the one that was dumped, though its place is another.
    stop : threading.Event, optional
        Whoever sets it ends the dump: what is done is committed.
    told : callable, optional
        Called with Counts every now and then.
    commit_s : float
        Seconds of work that one shard holds at most, and so what a kill may cost.
    max_shard_rows : int
        Rows of a shard, about.

    Returns
    -------
    Counts
        Rows of items that failed have an error in place of an embedding, and are counted in `errors`.

    Raises
    ------
    SourceInvalid
        The source cannot be read, or not to its end; what came before that is committed.
    DumpRefused
        OUT is of another backbone, precision or source, or another dump is at work there.
    DumpNotWritten
        The disk is full, say; what was committed stays, and another run does the rest.
    DumpSpoilt
        OUT is not what was written.
    ExtractorError
        Of the extractor, or of the servers, as a whole.

    Examples
    --------
    >>> with Extractor.load("minilm-l6") as extractor:  # doctest: +SKIP
    ...     dump("texts.csv", "dumped", extractor)
    """
    verb = as_verb(extractor)
    items = as_source(source, verb)
    check_apart(items, Path(out))
    counts, begun = counts_of(verb), time.monotonic()
    with opened(items, Path(out), verb, dtype=dtype, moved=moved) as folder:
        writer = Writer(folder, list(items.columns), counts, commit_s=commit_s, max_rows=max_shard_rows)
        entries = not_yet_dumped(items.entries(), folder, counts, numbered=items.numbered)
        flow = Flow(entries, verb, writer, counts, numbered=items.numbered)
        _count(items, counts)
        folder.say_complete(False)
        try:
            reached_end = flow.run(stop or Event(), told)
        finally:
            writer.close()
        folder.say_complete(reached_end)
    counts.elapsed_s = time.monotonic() - begun
    return counts


@contextmanager
def opened(
    source: Source, out: Path, verb: StreamingVerb, *, dtype: str | None, moved: bool = False
) -> Iterator[DumpFolder]:
    """Open OUT for what the verb makes of a source; see `open_folder`."""
    origin = Origin(
        fingerprint=verb.fingerprint, backbone=verb.name, dim=verb.dim, dtype=dtype or _dtype_there(out) or FLOAT32
    )
    with open_folder(out, origin, source.describe(), source.columns, moved=moved) as folder:
        yield folder


def _dtype_there(out: Path) -> str | None:
    return read_manifest(out).origin.dtype if (out / MANIFEST).is_file() else None


def as_verb(extractor: Extractor | StreamingVerb) -> StreamingVerb:
    """Return what embeds a stream."""
    return LocalVerb(extractor) if isinstance(extractor, Extractor) else extractor


def counts_of(verb: StreamingVerb) -> Counts:
    """Return counts of a dump that begins: what the verb did before is no part of it."""
    verb.times = StageTimes()
    return Counts(stages=verb.times)


def as_source(source: Source | str | Path, verb: StreamingVerb) -> Source:
    """Return what lists the items; raises SourceInvalid."""
    return open_source(source, modality=verb.modality) if isinstance(source, str | Path) else source


def check_apart(source: Source, out: Path) -> None:
    """Refuse to dump into the folder that is read: the shards would be items of the next run."""
    place = Path(source.describe()["place"])
    if place.is_dir() and out.resolve().is_relative_to(place.resolve()):
        raise DumpRefused(f"{out} is within {place}, which is dumped; choose a folder beside it")


def _count(source: Source, counts: Counts) -> None:
    """Count the items beside the work: only a bar needs to know."""

    def count() -> None:
        with suppress(SourceInvalid, OSError):
            counts.total = source.count()

    Thread(target=count, name="dump-count", daemon=True).start()
