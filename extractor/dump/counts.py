"""What a dump has done so far, and where its time went; plain numbers, for a bar, a log line and a summary."""

from dataclasses import dataclass, field

from extractor.outcome import Outcome
from extractor.stages import StageTimes


@dataclass
class Counts:
    """Written by the threads of a dump, each field by one of them at a time, and read by whoever shows them.

    Parameters
    ----------
    total : int, optional
        Items of the source, about, where that is known.
    skipped : int
        Items that were committed before.
    done, errors, cached, truncated : int
        Items whose rows were handed to the writer; those that failed, that the cache had, and whose end was left out.
    overflowed : int
        Rows whose embedding OUT's precision cannot hold: an error instead.
    committed, shards : int
        Rows and files that nothing can take back.
    kinds : dict of str to int
        Errors by their class.
    first_error : tuple of str, optional
        The first one: the item's key, and what is wrong with it.
    vanished : int
        Rows of the dump that the source no longer has.
    changed : int
        Files that were skipped, and have changed since they were dumped.
    first_changed : str
        The first one's key.
    read_bytes, written_bytes : int
    read_s, write_s : float
        Spent by the threads that read and write.
    source_wait_s, disk_wait_s : float
        Waited for the former, with nothing to do.
    elapsed_s : float
    stages : StageTimes
        Of the extractor, summed over its threads; what a server spends is its own.
    """

    total: int | None = None
    skipped: int = 0
    done: int = 0
    errors: int = 0
    cached: int = 0
    truncated: int = 0
    overflowed: int = 0
    committed: int = 0
    shards: int = 0
    kinds: dict[str, int] = field(default_factory=dict)
    first_error: tuple[str, str] | None = None
    vanished: int = 0
    changed: int = 0
    first_changed: str = ""
    read_bytes: int = 0
    written_bytes: int = 0
    read_s: float = 0.0
    write_s: float = 0.0
    source_wait_s: float = 0.0
    disk_wait_s: float = 0.0
    elapsed_s: float = 0.0
    stages: StageTimes = field(default_factory=StageTimes)

    def count(self, outcome: Outcome, key: str) -> None:
        """Count one more item."""
        self.done += 1
        self.cached += outcome.cached
        self.truncated += outcome.truncated
        if outcome.error is not None:
            kind = type(outcome.error).__name__
            self.errors += 1
            self.kinds[kind] = self.kinds.get(kind, 0) + 1
            self.first_error = self.first_error or (key, str(outcome.error))

    @property
    def rate(self) -> float:
        """Items a second."""
        return self.done / self.elapsed_s if self.elapsed_s else 0.0

    @property
    def left_s(self) -> float | None:
        """Seconds that the rest should take."""
        if self.total is None or not self.rate:
            return None
        return max(0, self.total - self.skipped - self.done) / self.rate

    def where_time_went(self) -> str:
        """Say it in a line."""
        spent = {
            "read": self.read_s,
            "cache": self.stages.cache_ms / 1000,
            "decode": self.stages.decode_ms / 1000,
            "inference": self.stages.inference_ms / 1000,
            "write": self.write_s,
        }
        told = ", ".join(f"{what} {seconds:.1f} s" for what, seconds in spent.items())
        return (
            f"{self.elapsed_s:.1f} s; summed over threads: {told}; "
            f"waited {self.source_wait_s:.1f} s for the source, {self.disk_wait_s:.1f} s for the disk"
        )
