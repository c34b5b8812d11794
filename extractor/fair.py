"""Jobs in line, a line for each caller -> the next job, so that each caller gets its share of the work.

Deficit round robin (Shreedhar and Varghese, "Efficient Fair Queuing using Deficit Round Robin", 1995), with the credit
checked before a job and charged after it. Not for several threads at once: its owner holds a lock.
"""

from collections import OrderedDict
from dataclasses import dataclass, field

from extractor.caller import Caller
from extractor.job import Job

QUANTUM = 1.0  # credit that a line of weight 1 gets in each round: an ordinary item


@dataclass(eq=False)
class _Line:
    caller: Caller
    jobs: OrderedDict[Job, int] = field(default_factory=OrderedDict)  # and the bytes of each
    credit: float = 0.0
    cost: float = 0.0
    n_bytes: int = 0


@dataclass(frozen=True)
class Held:
    """What waits: of one caller, or in all.

    Parameters
    ----------
    n_items, n_bytes : int
    cost : float
        In ordinary items.
    """

    n_items: int = 0
    n_bytes: int = 0
    cost: float = 0.0


class FairQueue:
    """The jobs that wait, and whose turn it is."""

    def __init__(self) -> None:
        self._lines: OrderedDict[str, _Line] = OrderedDict()  # in the order of their turns
        self.n_items = 0
        self.n_bytes = 0
        self.cost = 0.0

    def __len__(self) -> int:
        return self.n_items

    def push(self, job: Job) -> None:
        """Put a job at the end of its caller's line."""
        line = self._lines.get(job.caller.name)
        if line is None:
            line = self._lines[job.caller.name] = _Line(job.caller)
        line.jobs[job] = len(job.item)
        self._count(line, 1, len(job.item), job.cost)

    def pop(self) -> Job:
        """Take the next job out; the queue may not be empty."""
        name, line = next(iter(self._lines.items()))
        while line.credit <= 0:
            line.credit += QUANTUM * line.caller.weight
            if line.credit <= 0:
                self._lines.move_to_end(name)
                name, line = next(iter(self._lines.items()))
        job, n_bytes = line.jobs.popitem(last=False)
        line.credit -= job.cost
        self._took(name, line, job, n_bytes)
        if line.credit <= 0 and name in self._lines:
            self._lines.move_to_end(name)
        return job

    def discard(self, job: Job) -> bool:
        """Take a job out wherever it stands; tell whether it was here."""
        line = self._lines.get(job.caller.name)
        n_bytes = line.jobs.pop(job, None) if line is not None else None
        if line is None or n_bytes is None:
            return False
        self._took(job.caller.name, line, job, n_bytes)
        return True

    def held_by(self, caller: Caller) -> Held:
        """Return what waits in a caller's line."""
        line = self._lines.get(caller.name)
        return Held(len(line.jobs), line.n_bytes, line.cost) if line is not None else Held()

    def before(self, caller: Caller, cost: float) -> float:
        """Return the cost that is worked off before a caller's next jobs of so much cost are done, themselves included.

        In its turns a caller gets the share of its weight among those who wait; at worst it waits for all.
        """
        weights = {name: line.caller.weight for name, line in self._lines.items()}
        weights[caller.name] = caller.weight
        share = caller.weight / sum(weights.values())
        return min(self.cost + cost, (self.held_by(caller).cost + cost) / share)

    @property
    def oldest(self) -> float | None:
        """When the job came that has waited longest, on the clock of `time.monotonic`; None when nothing waits."""
        return min((next(iter(line.jobs)).queued_at for line in self._lines.values()), default=None)

    def _took(self, name: str, line: _Line, job: Job, n_bytes: int) -> None:
        self._count(line, -1, -n_bytes, -job.cost)
        if not line.jobs:  # who has nothing to do saves up no credit
            del self._lines[name]

    def _count(self, line: _Line, items: int, n_bytes: int, cost: float) -> None:
        line.n_bytes += n_bytes
        line.cost += cost
        self.n_items += items
        self.n_bytes += n_bytes
        self.cost = self.cost + cost if self.n_items else 0.0  # sums of floats drift
