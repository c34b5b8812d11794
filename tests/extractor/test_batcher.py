import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import wait

import numpy as np
import pytest

from extractor.batcher import Batcher, Job
from extractor.errors import Closed, InferenceFailed, QueueFull, UndecodableItem

WAIT_S = 20


def prepare(item: bytes) -> tuple[np.ndarray, bool]:
    if item == b"bad":
        raise UndecodableItem("bad")
    if item == b"bug":
        raise RuntimeError("a decoder's bug")
    return np.frombuffer(item, np.uint8), False


class Session:
    """A forward that counts its batches, can be held, and fails on poison."""

    def __init__(self) -> None:
        self.batches: list[list[bytes]] = []
        self.go = threading.Event()
        self.go.set()
        self.entered = threading.Semaphore(0)
        self.delay_s = 0.0

    def __call__(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        self.entered.release()
        assert self.go.wait(WAIT_S)
        time.sleep(self.delay_s)
        items = [array.tobytes() for array in arrays]
        self.batches.append(items)
        if b"poison" in items:
            raise RuntimeError("poison")
        return np.array([[len(item), np.nan if item == b"nan" else item[0]] for item in items], np.float32)


@pytest.fixture
def session() -> Session:
    return Session()


@pytest.fixture
def start(session: Session) -> Iterator[Callable[..., Batcher]]:
    started = []

    def start(**options: int) -> Batcher:
        settings = {"workers": 1, "max_batch_size": 8, "window": 32, "max_queue_size": 100, "max_queue_bytes": 1000}
        batcher = Batcher(prepare, session, **{**settings, **options})
        batcher.start("test")
        started.append(batcher)
        return batcher

    yield start
    session.go.set()
    for batcher in started:
        batcher.close()


def jobs(*items: bytes) -> list[Job]:
    return [Job(item) for item in items]


def held(batcher: Batcher, session: Session) -> Job:
    """Occupy the single worker until `session.go` is set."""
    session.go.clear()
    job = Job(b"held")
    batcher.submit([job])
    assert session.entered.acquire(timeout=WAIT_S)
    return job


def test_each_job_gets_its_own_row(start: Callable[..., Batcher]) -> None:
    many = jobs(*(bytes([i]) * (1 + i % 7) for i in range(50)))
    start(workers=3).submit(many)
    for i, job in enumerate(many):
        embedded = job.future.result(WAIT_S)
        assert embedded.embedding.tolist() == [1 + i % 7, i]
        assert embedded.embedding.base is None
        assert not embedded.embedding.flags.writeable


def test_what_is_queued_is_batched_when_the_session_frees(start: Callable[..., Batcher], session: Session) -> None:
    batcher = start(max_batch_size=4)
    first = held(batcher, session)
    many = jobs(*(bytes([65 + i]) for i in range(10)))
    batcher.submit(many)
    session.go.set()
    wait([job.future for job in [first, *many]], WAIT_S)
    assert [len(batch) for batch in session.batches] == [1, 4, 4, 2]


def test_items_of_like_length_share_a_batch(start: Callable[..., Batcher], session: Session) -> None:
    batcher = start(max_batch_size=2)
    first = held(batcher, session)
    many = jobs(b"aaaaaa", b"b", b"cccccc", b"d")
    batcher.submit(many)
    session.go.set()
    wait([job.future for job in [first, *many]], WAIT_S)
    assert session.batches[1:] == [[b"b", b"d"], [b"aaaaaa", b"cccccc"]]


def test_a_failed_batch_is_halved_until_only_the_culprit_fails(start: Callable[..., Batcher], session: Session) -> None:
    batcher = start()
    first = held(batcher, session)
    many = jobs(b"a", b"b", b"poison", b"c", b"d", b"e", b"f", b"nan")
    batcher.submit(many)
    session.go.set()
    wait([job.future for job in [first, *many]], WAIT_S)
    failed = [job.future.exception() for job in many]
    assert [i for i, error in enumerate(failed) if error] == [2, 7]
    assert all(isinstance(error, InferenceFailed) for error in failed if error)


def test_a_bad_item_fails_alone_and_the_loop_lives(start: Callable[..., Batcher]) -> None:
    many = jobs(b"bad", b"a", b"bug", b"b")
    batcher = start()
    batcher.submit(many)
    wait([job.future for job in many], WAIT_S)
    assert isinstance(many[0].future.exception(), UndecodableItem)
    assert isinstance(many[2].future.exception(), InferenceFailed)
    assert "decoder" not in str(many[2].future.exception())
    assert many[1].future.result().embedding[1] == ord("a")
    again = jobs(b"c")
    batcher.submit(again)
    assert again[0].future.result(WAIT_S).embedding[1] == ord("c")


def test_who_holds_the_future_does_not_hold_the_item(start: Callable[..., Batcher]) -> None:
    many = jobs(b"a", b"bad")
    start().submit(many)
    wait([job.future for job in many], WAIT_S)
    assert [job.item for job in many] == [b"", b""]


def test_callers_that_left_cost_nothing(start: Callable[..., Batcher], session: Session) -> None:
    batcher = start()
    first = held(batcher, session)
    many = jobs(b"a", b"b", b"c")
    batcher.submit(many)
    assert many[1].future.cancel()
    session.go.set()
    wait([job.future for job in [first, *many]], WAIT_S)
    assert session.batches[1] == [b"a", b"c"]


def test_the_queue_is_bounded_in_items_and_bytes_all_or_none(start: Callable[..., Batcher], session: Session) -> None:
    batcher = start(max_queue_size=3, max_queue_bytes=10)
    held(batcher, session)
    batcher.submit(jobs(b"a", b"b"))
    with pytest.raises(QueueFull, match=r"holds 2 items, 2 more would pass its limit of 3"):
        batcher.submit(jobs(b"c", b"d"))
    with pytest.raises(QueueFull, match=r"holds 2 bytes, 9 more would pass its limit of 10"):
        batcher.submit(jobs(b"123456789"))
    batcher.submit(jobs(b"c"))


def test_a_full_queue_says_when_there_should_be_room(start: Callable[..., Batcher], session: Session) -> None:
    batcher = start(max_queue_size=10, window=1)
    session.delay_s = 0.05
    done = jobs(b"a", b"b", b"c")
    batcher.submit(done)
    wait([job.future for job in done], WAIT_S)
    assert all(session.entered.acquire(timeout=WAIT_S) for _ in done)
    held(batcher, session)
    batcher.submit(jobs(*(bytes([i]) for i in range(10))))
    with pytest.raises(QueueFull) as full:
        batcher.submit(jobs(b"z"))
    assert full.value.retry_after_ms >= 10 * 50


def test_close_finishes_what_is_in_hand_and_tells_what_waits(start: Callable[..., Batcher], session: Session) -> None:
    batcher = start()
    first = held(batcher, session)
    waiting = jobs(b"a", b"b")
    batcher.submit(waiting)
    closing = threading.Thread(target=batcher.close)
    closing.start()
    for job in waiting:
        assert isinstance(job.future.exception(WAIT_S), Closed)
    assert not first.future.done()
    session.go.set()
    closing.join(WAIT_S)
    assert not closing.is_alive()
    assert first.future.result().embedding[0] == 4
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("test-")]
    with pytest.raises(Closed):
        batcher.submit(jobs(b"c"))
