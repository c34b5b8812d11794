"""One stream of items over one or several servers: each takes what it has room for, what one leaves others take up.

The `StreamingVerb` that a dump asks when the backbone is elsewhere.
"""

import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from threading import Condition, Thread

import grpc

from extractor.dump.verb import Readable
from extractor.errors import BackboneChanged, ExtractorError, ItemError
from extractor.outcome import Outcome
from extractor.stages import StageTimes
from headwater import retry, status
from headwater.client import Client
from headwater.convert import BackboneInfo
from headwater.errors import HeadwaterError, ServiceError

PATIENCE_S = 600.0  # for servers that are away to come back
GIVE_UP_S = 20.0  # on one of several servers; its items are asked of the others
PAUSE_S = 5.0  # before it is tried again
LOOK_S = 0.5
AHEAD = 64  # items that are read before a server has room for them


@dataclass
class _Turn:
    """One stream to one server: what it was asked, by the place in that stream, and is unanswered."""

    taken: dict[int, tuple[int, bytes]] = field(default_factory=dict)
    n_taken: int = 0
    over: bool = False


@dataclass
class _Work:
    """The items of one stream, shared by the threads that ask.

    Parameters
    ----------
    source : iterator of bytes or ItemError
        Read by a thread of its own: who waits for it would not take up what others leave.
    """

    source: Iterator[Readable]
    found: "SimpleQueue[tuple[int, Outcome] | BaseException | None]" = field(default_factory=SimpleQueue)
    left: "deque[tuple[int, bytes]]" = field(default_factory=deque)  # by a server that failed
    ahead: "deque[tuple[int, bytes]]" = field(default_factory=deque)  # read, and asked of nobody yet
    n_read: int = 0
    n_answered: int = 0
    since: float = 0.0  # of the last answer, or of the first item that waits for one
    ended: bool = False
    over: bool = False
    changed: Condition = field(default_factory=Condition)

    @property
    def done(self) -> bool:
        return self.over or (self.ended and self.n_answered == self.n_read)

    @property
    def waited_s(self) -> float:
        """How long something has been asked for, and nothing answered."""
        with self.changed:
            return time.monotonic() - self.since if self.n_answered < self.n_read else 0.0

    def read(self) -> None:
        """Read items until there are no more, or it is over."""
        try:
            for position, item in enumerate(self.source):
                with self.changed:
                    if self.n_answered == self.n_read:
                        self.since = time.monotonic()
                    self.n_read = position + 1
                    if not isinstance(item, ItemError):
                        self.ahead.append((position, item))
                        self.changed.notify_all()
                        self.changed.wait_for(lambda: self.over or len(self.ahead) < AHEAD)
                if isinstance(item, ItemError):
                    self._answer(position, Outcome(error=item))
                if self.over:
                    return
        except BaseException as error:  # the dump has to know
            self.found.put(error)
        finally:
            with self.changed:
                self.ended = True
                self.changed.notify_all()

    def items(self, turn: _Turn) -> Iterator[bytes]:
        """Yield what a server is asked, until all is answered or its turn is over; waits for what others may leave."""
        while (item := self._next(turn)) is not None:
            yield item

    def answer(self, turn: _Turn, place: int, outcome: Outcome) -> None:
        """Take what a server answers."""
        with self.changed:
            position, _ = turn.taken.pop(place)
        self._answer(position, outcome)

    def end(self, turn: _Turn) -> None:
        """Leave to others what a server has not answered."""
        with self.changed:
            turn.over = True
            self.left.extend(turn.taken.values())
            self.changed.notify_all()

    def _answer(self, position: int, outcome: Outcome) -> None:
        self.found.put((position, outcome))
        with self.changed:
            self.n_answered += 1
            self.since = time.monotonic()
            if self.done:
                self.changed.notify_all()

    def _next(self, turn: _Turn) -> bytes | None:
        with self.changed:
            while not (turn.over or self.done):
                if waiting := self.left or self.ahead:
                    turn.taken[turn.n_taken] = one = waiting.popleft()
                    turn.n_taken += 1
                    if len(self.ahead) == AHEAD - 1:
                        self.changed.notify_all()  # there is room
                    return one[1]
                self.changed.wait(LOOK_S)
        return None


class Spread:
    """Servers of one backbone, as a `StreamingVerb`.

    Parameters
    ----------
    clients : sequence of Client
        Closed by whoever made them.
    patience_s : float
        How long nothing at all may be answered before the dump gives up.

    Raises
    ------
    BackboneChanged
        Two of them serve different ones.
    ExtractorError, HeadwaterError
        None of them answers, or one has no such backbone.
    """

    def __init__(self, clients: Sequence[Client], *, patience_s: float = PATIENCE_S) -> None:
        self._clients = clients
        self._patience_s = patience_s
        for client in clients:
            client.timeout_s = patience_s if len(clients) == 1 else min(GIVE_UP_S, patience_s)
        infos = _described(clients)
        self._info = infos[0]
        for info in infos:
            self._check(info)
        self.name = self._info.name
        self.fingerprint = self._info.fingerprint
        self.modality = self._info.modality
        self.dim = self._info.dim
        self.max_item_bytes = min(info.limits.max_item_bytes for info in infos)
        self.times = StageTimes()  # theirs are their own

    def outcomes(self, items: Iterator[Readable]) -> Generator[tuple[int, Outcome], None, None]:
        """Yield each item's position and outcome as it comes."""
        work = _Work(items)
        Thread(target=work.read, name="dump-read-on", daemon=True).start()
        for client in self._clients:
            Thread(target=self._ask, args=(client, work), name=f"dump-{client.target}", daemon=True).start()
        n_asking = len(self._clients)
        failure: BaseException | None = None
        try:
            while n_asking:
                try:
                    one = work.found.get(timeout=LOOK_S)
                except Empty:
                    if failure is not None and work.waited_s > self._patience_s:
                        raise failure from None
                    continue
                if isinstance(one, tuple):
                    failure = None
                    yield one
                elif one is None:
                    n_asking -= 1
                elif _may_pass(one):
                    failure = one
                else:
                    raise one
        finally:
            with work.changed:
                work.over = True
                work.changed.notify_all()

    def _ask(self, client: Client, work: _Work) -> None:
        """Have one server answer what it can, as long as there is something; in a thread of its own."""
        failed = False
        while not work.done:
            turn = _Turn()
            try:
                if failed:
                    client.backbones()  # one that hangs would hold items, and the rows behind them wait
                    failed = False
                self._check(client.describe())
                for place, outcome in client.iter_unordered(work.items(turn)):
                    if outcome.error is not None and retry.of_item(outcome.error).retryable:  # it is the server's
                        raise outcome.error
                    work.answer(turn, place, outcome)
            except BaseException as error:  # whatever it is, the others and the dump have to know
                failed = True
                work.end(turn)
                work.found.put(error)
                if not _may_pass(error):
                    return
                with work.changed:
                    work.changed.wait_for(lambda: work.done, PAUSE_S)
        work.found.put(None)

    def _check(self, info: BackboneInfo) -> None:
        if info.fingerprint != self._info.fingerprint:
            raise BackboneChanged(
                f"one server's {info.name} is {info.fingerprint}, another's {self._info.fingerprint}; their embeddings "
                "must not be mixed: ask servers of one backbone"
            )


def _described(clients: Sequence[Client]) -> list[BackboneInfo]:
    """Ask servers what they serve; those that do not answer may do so later, if one does now."""
    found: list[BackboneInfo] = []
    away: BaseException | None = None
    for client in clients:
        try:
            found.append(client.describe())
        except (ExtractorError, HeadwaterError) as error:
            if not _may_pass(error):
                raise
            away = error
    if not found and isinstance(away, ServiceError):
        named = ", ".join(client.target for client in clients)
        raise ServiceError(
            away.code, f"nobody answers at {named} ({away.message}); start a server there, or mend --server"
        )
    if not found and away is not None:
        raise away
    return found


def _may_pass(error: BaseException) -> bool:
    """Tell whether another try may go better."""
    if isinstance(error, ServiceError):
        return error.code in retry.RETRYABLE or error.code is grpc.StatusCode.DEADLINE_EXCEEDED
    if isinstance(error, status.ROOTS):
        return status.code_of(error) in retry.RETRYABLE
    return False
