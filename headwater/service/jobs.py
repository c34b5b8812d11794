"""Training jobs: orders with their examples -> versions of heads, one at a time, whoever watches or has left.

A job is open from its order on. While examples come in it belongs to the call that sends them, and ends with it; then
it waits for its turn and trains in a process of its own. Once it has ended it is kept for a while, to be asked for.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from extractor.errors import Closed, ExtractorError
from headwater import shelf
from headwater.errors import JobCancelled, JobFailed, JobNotFound, JobsFull
from headwater.heads import EMBEDDING, QUEUED, TRAINING, JobInfo
from headwater.order import HEAD_FOLDER, Order
from headwater.service import child
from headwater.service.door import Pass
from headwater.service.served import shown
from headwater.service.sight import Sight
from headwater.shelf import Version
from headwater.status import ROOTS, CallError

log = logging.getLogger(__name__)

MAX_OPEN = 16  # jobs that have not ended: each may hold 4 GiB of disk
MAX_OPEN_OF_ONE = 8
MAX_ENDED = 200
KEEP_S = 3600.0
RETRY_MS = 5000  # for a job to end
MAX_FAILURES = 100  # that a job tells of one by one
DONE, FAILED, CANCELLED = "done", "failed", "cancelled"
STOPPING = "the server is stopping and has cancelled the job; train again once it is back"


@dataclass(eq=False)
class Job:
    """One job while it is known.

    Parameters
    ----------
    order : Order
    owner : str
        Whose it is; see `Pass.owner`.
    folder : Path
        Its own, until it has ended.
    info : JobInfo
        How it is now.
    """

    order: Order
    owner: str
    folder: Path
    info: JobInfo
    changed: asyncio.Event = field(default_factory=asyncio.Event)  # set, and replaced, whenever `info` is another
    stopped: asyncio.Event = field(default_factory=asyncio.Event)  # whoever works on it is to leave it
    why: JobCancelled | Closed | None = None  # set with `stopped`
    task: "asyncio.Task[None] | None" = None  # that trains it
    ending: "asyncio.Task[None] | None" = None  # that puts an end to it
    ended_s: float | None = None  # on the clock of `time.monotonic`
    begun_s: float = field(default_factory=time.monotonic)
    is_kept: bool = False  # its head is being put in its place, and it is too late to cancel

    def set(self, **facts: Any) -> None:
        """Change facts of `info`, and tell those who watch."""
        self.info = replace(self.info, **facts)
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()

    def take(self, n_examples: int, failures: Mapping[int, ExtractorError]) -> None:
        """Count examples that have come in, and items that could not be embedded, by their positions."""
        info = self.info
        room = MAX_FAILURES - len(info.failures)
        self.set(
            done=info.done + n_examples + len(failures),
            examples=info.examples + n_examples,
            failed_items=info.failed_items + len(failures),
            failures={**info.failures, **dict(list(failures.items())[:room])},
        )

    def progressed(self, done: int, total: int, step: str) -> None:
        """Tell how far the training is."""
        self.set(done=done, total=total, step=step)

    async def states(self) -> AsyncIterator[JobInfo]:
        """Yield how it is now, and then each change, until it has ended; of those not taken in time only the last."""
        while True:
            changed, info = self.changed, self.info
            yield info
            if info.has_ended:
                return
            await changed.wait()


class Jobs:
    """The jobs of a server; used on its event loop alone.

    Parameters
    ----------
    sight : Sight
    at_once : int
        Jobs that train at the same time.
    """

    def __init__(self, sight: Sight, *, at_once: int = 1) -> None:
        self._sight = sight
        self._turns = asyncio.Semaphore(at_once)  # first come, first served
        self._jobs: dict[str, Job] = {}
        self._stopping = False

    def open(self, order: Order, visitor: Pass) -> Job:
        """Open a job, whose examples are to come.

        Raises
        ------
        JobsFull
            The caller has as many open as it may, or all have.
        HeadsNotWritable
        """
        self._prune()
        self._check_room(visitor.owner)
        info = JobInfo(
            id=secrets.token_hex(8),
            head=order.name,
            state=EMBEDDING,
            backbone=order.backbone,
            fingerprint=order.fingerprint,
            created_at=datetime.now(UTC),
        )
        self._jobs[info.id] = job = Job(order, visitor.owner, _staged(order), info)
        return job

    async def leave(self, job: Job, why: CallError | None = None) -> None:
        """End a job whose examples have not all come; nothing of it is left but why, for those who watch."""
        if why is None:
            self._jobs.pop(job.info.id, None)
        if why is not None and why is job.why:
            await self._end(job, CANCELLED, why)
        else:
            await self._end(job, FAILED, why or JobFailed("its caller left before it had sent everything"))

    async def start(self, job: Job) -> None:
        """Let a job that has its examples train when its turn comes."""
        if job.why is not None:  # it was cancelled as the last of them came in
            return await self._end(job, CANCELLED, job.why)
        job.set(state=QUEUED, done=0, total=0, step="")
        job.task = asyncio.create_task(self._train(job))
        await asyncio.sleep(0)  # it has begun: a task that is cancelled before would never say how it ended

    def find(self, identity: str, visitor: Pass) -> Job:
        """Return a job that a caller may see; raises JobNotFound."""
        self._prune()
        job = self._jobs.get(identity)
        if job is None or not visitor.may_see(job.owner):
            raise JobNotFound(f"there is no job {shown(identity)} of yours; ListJobs tells which there are")
        return job

    def all_of(self, visitor: Pass) -> list[JobInfo]:
        """Return the jobs that a caller may see, the newest first."""
        self._prune()
        return [job.info for job in reversed(self._jobs.values()) if visitor.may_see(job.owner)]

    async def cancel(self, job: Job, why: JobCancelled | Closed) -> None:
        """Cancel a job, and return once it has ended."""
        if job.info.has_ended:
            return
        if not job.is_kept and not job.stopped.is_set():
            job.why = why
            job.stopped.set()
            if job.task is not None:
                job.task.cancel()
        async for _ in job.states():
            pass

    async def close(self) -> None:
        """Cancel all jobs, and take no more."""
        self._stopping = True
        await asyncio.gather(*(self.cancel(job, Closed(STOPPING)) for job in list(self._jobs.values())))

    async def close_at(self, event: asyncio.Event) -> None:
        """Close as soon as an event is set."""
        await event.wait()
        await self.close()

    def _check_room(self, owner: str) -> None:
        if self._stopping:
            raise Closed("the server is stopping, and trains nothing more; ask it once it is back")
        is_open = [job for job in self._jobs.values() if not job.info.has_ended]
        if len(is_open) >= MAX_OPEN:
            raise JobsFull(f"{len(is_open)} jobs are open, the limit is {MAX_OPEN}; try again later", RETRY_MS)
        mine = sum(job.owner == owner for job in is_open)
        if owner and mine >= MAX_OPEN_OF_ONE:
            raise JobsFull(f"{mine} of your jobs are open, the limit is {MAX_OPEN_OF_ONE}; wait for one", RETRY_MS)

    async def _train(self, job: Job) -> None:
        try:
            async with self._turns:
                job.set(state=TRAINING)
                metrics = await child.run(job.folder, job.progressed)
                job.is_kept = True
                version = await asyncio.to_thread(_keep, job)
            await self._end(job, DONE, version=str(version), metrics=metrics)
        except asyncio.CancelledError:
            await self._end(job, CANCELLED, job.why or Closed(STOPPING))
        except ROOTS as error:
            await self._end(job, FAILED, error)
        except OSError as error:
            await self._end(job, FAILED, shelf.not_writable(error))
        except Exception as error:
            log.exception("job %s of the head %r failed", job.info.id, job.order.name)
            await self._end(job, FAILED, JobFailed(f"{type(error).__name__}; the server's log says more"))

    async def _end(self, job: Job, state: str, error: CallError | None = None, **facts: Any) -> None:
        """End a job, to the end also where whoever does so is cancelled meanwhile: an open job takes a place."""
        job.ending = asyncio.create_task(self._finish(job, state, error, facts))
        await asyncio.shield(job.ending)

    async def _finish(self, job: Job, state: str, error: CallError | None, facts: Mapping[str, Any]) -> None:
        await asyncio.to_thread(shelf.unstage, job.folder)
        job.ended_s = time.monotonic()
        seconds = job.ended_s - job.begun_s
        self._sight.job_ended(state, seconds)
        about = f": {error}" if error is not None else ""
        log.info("job %s of the head %r is %s after %.1f s%s", job.info.id, job.order.name, state, seconds, about[:300])
        job.set(state=state, error=error, ended_at=datetime.now(UTC), step="", **facts)

    def _prune(self) -> None:
        """Forget jobs that ended long ago, and the oldest where there are many."""
        ended = [(job.ended_s, identity) for identity, job in self._jobs.items() if job.ended_s is not None]
        now = time.monotonic()
        too_many = len(ended) - MAX_ENDED
        for i, (ended_s, identity) in enumerate(sorted(ended)):
            if i < too_many or now - ended_s > KEEP_S:
                del self._jobs[identity]


def _staged(order: Order) -> Path:
    """Make the folder of a job, with its order."""
    try:
        folder = shelf.stage()
        try:
            order.write(folder)
        except OSError:
            shelf.unstage(folder)
            raise
    except OSError as error:
        raise shelf.not_writable(error) from None
    return folder


def _keep(job: Job) -> Version:
    """Make what a job has trained the next version of its head; whole, or not at all."""
    return shelf.add_version(job.order.name, job.folder / HEAD_FOLDER, activate=job.order.activate)
