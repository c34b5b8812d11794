from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extractor.caller import Caller
from extractor.fair import FairQueue
from extractor.job import Job

A, B = Caller("a"), Caller("b")


def filled(*jobs: Job) -> FairQueue:
    queue = FairQueue()
    for job in jobs:
        queue.push(job)
    return queue


def test_one_caller_is_served_in_order() -> None:
    jobs = [Job(bytes([i])) for i in range(5)]
    queue = filled(*jobs)
    assert [queue.pop() for _ in jobs] == jobs
    assert len(queue) == queue.n_bytes == queue.cost == 0


def test_a_newcomer_waits_for_one_turn_and_no_longer() -> None:
    queue = filled(*(Job(b"a", A) for _ in range(1000)))
    queue.pop()
    queue.push(Job(b"b", B))
    assert B in [queue.pop().caller for _ in range(2)]


@pytest.mark.parametrize(("weight", "share"), [(1.0, 0.5), (3.0, 0.75), (0.25, 0.2)])
def test_work_is_shared_by_weight(weight: float, share: float) -> None:
    heavy = Caller("b", weight)
    queue = filled(*(Job(b"", A) for _ in range(1000)), *(Job(b"", heavy) for _ in range(1000)))
    served = Counter(queue.pop().caller.name for _ in range(1000))
    assert served["b"] / 1000 == pytest.approx(share, abs=0.01)


def test_who_asks_for_costlier_items_gets_fewer() -> None:
    queue = filled(*(Job(b"", A, cost=1) for _ in range(900)), *(Job(b"", B, cost=8) for _ in range(900)))
    served = Counter(queue.pop().caller.name for _ in range(900))
    assert served["a"] / served["b"] == pytest.approx(8, rel=0.05)


def test_a_job_can_leave_from_anywhere() -> None:
    jobs = [Job(b"xy", A), Job(b"xyz", B), Job(b"x", A)]
    queue = filled(*jobs)
    assert queue.discard(jobs[0])
    assert not queue.discard(jobs[0])
    assert (queue.n_items, queue.n_bytes, queue.held_by(A).n_items, queue.held_by(B).n_bytes) == (2, 4, 1, 3)
    assert {queue.pop(), queue.pop()} == set(jobs[1:])


def test_what_is_before_a_caller_is_its_share_and_never_more_than_all() -> None:
    queue = filled(*(Job(b"", A) for _ in range(100)))
    assert queue.before(B, 1.0) == 2.0
    assert queue.before(A, 1.0) == 101.0
    assert queue.before(Caller("c", 0.001), 1.0) == 101.0


def test_the_oldest_is_known_across_lines() -> None:
    first, second = Job(b"", B, queued_at=5.0), Job(b"", A, queued_at=7.0)
    queue = filled(second, first)
    assert queue.oldest == 5.0
    queue.discard(first)
    assert queue.oldest == 7.0
    queue.pop()
    assert queue.oldest is None


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abc"), st.floats(0.1, 50), st.integers(0, 9), st.sampled_from(["push", "pop", "drop"])
        )
    )
)
def test_whatever_happens_the_counts_are_true_and_nothing_is_lost(
    steps: list[tuple[str, float, int, str]],
) -> None:
    queue, inside = FairQueue(), []
    for name, cost, size, step in steps:
        if step == "push" or not inside:
            job = Job(b"x" * size, Caller(name, 0.5 if name == "a" else 2.0), cost)
            queue.push(job)
            inside.append(job)
        elif step == "pop":
            job = queue.pop()
            assert job is next(one for one in inside if one.caller == job.caller)  # in order within a line
            inside.remove(job)
        else:
            assert queue.discard(inside.pop(size % len(inside)))
        assert len(queue) == len(inside)
        assert queue.n_bytes == sum(len(one.item) for one in inside)
        assert queue.cost == pytest.approx(sum(one.cost for one in inside))
