import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import wait
from typing import Any

import numpy as np
import pytest

from extractor.batcher import Batcher, Bounds
from extractor.batches import Budget
from extractor.caller import Caller
from extractor.errors import (
    Closed,
    DeadlinePassed,
    DeadlineTooShort,
    InferenceFailed,
    NotServing,
    QueueFull,
    RequestTooLarge,
    UndecodableItem,
)
from extractor.job import Job

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

    def start(
        *,
        max_batch_size: int = 8,
        max_cost: int = 1000,
        max_padding: float = 0.99,
        max_items: int = 100,
        max_bytes: int = 1000,
        max_forward_s: float = 60.0,
        **options: Any,
    ) -> Batcher:
        batcher = Batcher(
            prepare,
            session,
            cost_of=len,
            budget=Budget(max_batch_size, max_cost, max_padding),
            bounds=Bounds(max_items, max_bytes, max_forward_s),
            **{"workers": 1, "window": 32, **options},
        )
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
    assert session.batches[1:] == [[b"aaaaaa", b"cccccc"], [b"b", b"d"]]  # the oldest first


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


def test_a_session_that_gives_a_row_too_few_fails_and_the_loop_lives(
    start: Callable[..., Batcher], session: Session
) -> None:
    batcher = start()
    batcher._forward = lambda arrays: session(arrays)[1:]
    many = jobs(b"a", b"b", b"c")
    batcher.submit(many)
    assert all(isinstance(job.future.exception(WAIT_S), InferenceFailed) for job in many)
    batcher._forward = session
    (again,) = jobs(b"d")
    batcher.submit([again])
    assert again.future.result(WAIT_S).embedding[1] == ord("d")


def test_a_callback_that_raises_harms_nobody(start: Callable[..., Batcher]) -> None:
    batcher = start()
    batcher.on_batch = batcher.on_failure = lambda *_: 1 / 0
    for name in (b"a", b"poison", b"b", b"poison", b"c"):
        (job,) = jobs(name)
        batcher.submit([job])
        assert (job.future.exception(WAIT_S) is None) == (name != b"poison")


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
    wait([job.future for job in (first, many[0], many[2])], WAIT_S)
    assert session.batches[1] == [b"a", b"c"]


def test_the_queue_is_bounded_in_items_and_bytes_all_or_none(start: Callable[..., Batcher], session: Session) -> None:
    batcher = start(max_items=3, max_bytes=10)
    held(batcher, session)
    batcher.submit(jobs(b"a", b"b"))
    with pytest.raises(QueueFull, match=r"holds 2 items, 2 more would pass its limit of 3"):
        batcher.submit(jobs(b"c", b"d"))
    with pytest.raises(QueueFull, match=r"holds 2 bytes, 9 more would pass its limit of 10"):
        batcher.submit(jobs(b"123456789"))
    batcher.submit(jobs(b"c"))


def test_a_full_queue_says_when_there_should_be_room(start: Callable[..., Batcher], session: Session) -> None:
    batcher = start(max_items=10, max_batch_size=1, window=1)
    session.delay_s = 0.05
    done = jobs(b"a", b"b", b"c")
    batcher.submit(done)
    wait([job.future for job in done], WAIT_S)
    assert all(session.entered.acquire(timeout=WAIT_S) for _ in done)
    held(batcher, session)
    batcher.submit(jobs(*(bytes([i]) for i in range(10))))
    with pytest.raises(QueueFull) as full:
        batcher.submit(jobs(b"z"))
    assert full.value.retry_after_ms >= 10 * 50 / 2  # the queue's time, give or take a half


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


@pytest.fixture(params=[0, 3], ids=["fused", "pooled"])
def decode_threads(request: pytest.FixtureRequest) -> int:
    return request.param


def test_both_shapes_answer_everybody(start: Callable[..., Batcher], decode_threads: int) -> None:
    batcher = start(workers=2, decode_threads=decode_threads, window=16)
    many = jobs(*(bytes([i]) * (1 + i % 5) for i in range(90)), b"bad")
    batcher.submit(many)
    found = [job.future.result(WAIT_S).embedding.tolist() for job in many[:-1]]
    assert found == [[1 + i % 5, i] for i in range(90)]
    assert isinstance(many[-1].future.exception(WAIT_S), UndecodableItem)


def test_a_pool_prepares_ahead_but_no_further_than_the_window(start: Callable[..., Batcher], session: Session) -> None:
    batcher = start(decode_threads=2, max_batch_size=1, window=4)
    held(batcher, session)
    batcher.submit(jobs(*(bytes([i]) for i in range(20))))
    deadline = time.monotonic() + WAIT_S
    while batcher.queue().n_items > 16 and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(0.05)
    assert batcher.queue().n_items == 16


def test_a_batch_keeps_to_its_cost_and_its_padding(start: Callable[..., Batcher], session: Session) -> None:
    batcher = start(max_cost=12, max_padding=0.2)
    first = held(batcher, session)
    many = jobs(b"aaaaaa", b"b", b"cccccc", b"ddddd", b"ee", b"f")
    batcher.submit(many)
    session.go.set()
    wait([job.future for job in [first, *many]], WAIT_S)
    assert session.batches[1:] == [[b"aaaaaa", b"cccccc"], [b"b", b"f"], [b"ddddd"], [b"ee"]]


def test_callers_take_turns(start: Callable[..., Batcher], session: Session) -> None:
    batcher = start(max_batch_size=1, window=1)
    first = held(batcher, session)
    greedy, modest = Caller("greedy"), Caller("modest")
    many = [Job(b"g" * (i + 1), greedy) for i in range(8)] + [Job(b"m" * (i + 1), modest) for i in range(2)]
    batcher.submit(many[:8])
    batcher.submit(many[8:])
    session.go.set()
    wait([job.future for job in [first, *many]], WAIT_S)
    order = [batch[0][:1] for batch in session.batches[1:]]
    assert order[:4].count(b"m") == 2


def test_one_caller_leaves_room_for_others(start: Callable[..., Batcher], session: Session) -> None:
    batcher = start(max_items=100)
    held(batcher, session)
    greedy = Caller("greedy")
    with pytest.raises(
        QueueFull, match=r"items of yours wait already, 1 more would leave \d+ of 100 to others"
    ) as full:
        for _ in range(100):
            batcher.submit([Job(b"g", greedy)])
    assert full.value.retry_after_ms >= 20
    assert batcher.queue().n_items == 80
    batcher.submit([Job(b"m", Caller("modest")) for _ in range(10)])


def test_what_can_never_fit_is_told_so(start: Callable[..., Batcher]) -> None:
    with pytest.raises(RequestTooLarge, match="request has 4 items, the queue holds at most 3"):
        start(max_items=3).submit(jobs(b"a", b"b", b"c", b"d"))


def test_who_leaves_the_queue_makes_room_at_once(start: Callable[..., Batcher], session: Session) -> None:
    batcher = start(max_items=3)
    held(batcher, session)
    many = jobs(b"a", b"b", b"c")
    batcher.submit(many)
    many[0].future.cancel()
    batcher.discard(many[:1])
    assert batcher.queue().n_items == 2
    batcher.submit(jobs(b"d"))


def test_who_leaves_after_being_prepared_is_not_run(start: Callable[..., Batcher], session: Session) -> None:
    batcher = start(decode_threads=1)
    first = held(batcher, session)
    many = jobs(b"a", b"b")
    batcher.submit(many)
    deadline = time.monotonic() + WAIT_S
    while batcher.queue().n_items and time.monotonic() < deadline:
        time.sleep(0.005)
    assert many[0].future.cancel()
    session.go.set()
    wait([first.future, many[1].future], WAIT_S)
    assert session.batches[1:] == [[b"b"]]


def test_an_expired_job_is_told_and_never_run(
    start: Callable[..., Batcher], session: Session, decode_threads: int
) -> None:
    batcher = start(decode_threads=decode_threads)
    first = held(batcher, session)
    late, timely = Job(b"late", deadline=time.monotonic() + 0.05), Job(b"timely")
    batcher.submit([late])
    batcher.submit([timely])
    time.sleep(0.1)
    session.go.set()
    wait([job.future for job in (first, late, timely)], WAIT_S)
    assert isinstance(late.future.exception(), DeadlinePassed)
    assert session.batches[1:] == [[b"timely"]]


def test_what_cannot_be_done_in_time_is_refused_on_arrival(start: Callable[..., Batcher], session: Session) -> None:
    batcher = start(max_batch_size=1, window=1)
    session.delay_s = 0.05
    done = jobs(b"a", b"b")
    batcher.submit(done)
    wait([job.future for job in done], WAIT_S)
    assert all(session.entered.acquire(timeout=WAIT_S) for _ in done)
    held(batcher, session)
    batcher.submit(jobs(*(bytes([i]) for i in range(20))))
    with pytest.raises(DeadlineTooShort, match=r"about [\d,]+ ms, the deadline leaves \d+ ms") as refused:
        batcher.submit([Job(b"z", deadline=time.monotonic() + 0.2)])
    assert refused.value.retry_after_ms > 200
    batcher.submit([Job(b"z", deadline=time.monotonic() + 60)])


def test_a_batch_may_be_awaited(start: Callable[..., Batcher], session: Session, decode_threads: int) -> None:
    batcher = start(decode_threads=decode_threads, max_batch_size=3, max_queue_delay_ms=5_000)
    many = jobs(b"a", b"b", b"c")
    for job in many:
        batcher.submit([job])
        time.sleep(0.02)
    wait([job.future for job in many], WAIT_S)
    assert session.batches == [[b"a", b"b", b"c"]]
    alone = start(decode_threads=decode_threads, max_batch_size=3, max_queue_delay_ms=30)
    late = jobs(b"d")
    alone.submit(late)
    assert late[0].future.result(WAIT_S)


def test_a_forward_that_hangs_is_given_up_and_taken_up_again(start: Callable[..., Batcher], session: Session) -> None:
    batcher = start(max_forward_s=0.2)
    told = threading.Event()
    batcher.on_failure = told.set
    hung = held(batcher, session)
    waiting = jobs(b"a", b"b")
    batcher.submit(waiting)
    for job in (hung, *waiting):
        assert isinstance(job.future.exception(WAIT_S), NotServing)
    assert told.wait(WAIT_S)
    with pytest.raises(NotServing, match=r"has not returned for 0\.2 s"):
        batcher.submit(jobs(b"c"))
    session.go.set()
    deadline = time.monotonic() + WAIT_S
    while True:
        again = jobs(b"c")
        try:
            batcher.submit(again)
        except NotServing:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        else:
            break
    assert again[0].future.result(WAIT_S).embedding[1] == ord("c")


def test_one_hanging_worker_leaves_the_others_at_work(start: Callable[..., Batcher], session: Session) -> None:
    batcher = start(workers=2, max_forward_s=0.2)
    hung = held(batcher, session)
    holding, session.go = session.go, threading.Event()  # the other worker waits for nothing
    session.go.set()
    assert isinstance(hung.future.exception(WAIT_S), NotServing)
    many = jobs(b"a", b"b")
    batcher.submit(many)
    assert [job.future.result(WAIT_S).embedding[1] for job in many] == [ord("a"), ord("b")]
    holding.set()


def test_each_batch_tells_its_facts_and_each_job_its_times(start: Callable[..., Batcher], session: Session) -> None:
    batcher = start()
    facts = []
    batcher.on_batch = facts.append
    session.delay_s = 0.02
    first = held(batcher, session)
    many = jobs(b"a", b"bbb")
    batcher.submit(many)
    time.sleep(0.05)
    session.go.set()
    wait([job.future for job in [first, *many]], WAIT_S)
    batcher.close()
    assert [(one.n_items, one.cost, one.padded_cost) for one in facts] == [(1, 4, 4), (2, 4, 6)]
    assert all(one.inference_s >= 0.02 for one in facts)
    assert all(job.queue_s >= 0.05 and job.inference_s >= 0.01 for job in many)
