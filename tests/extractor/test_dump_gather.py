"""Runs of a stream: how long they are, what does not wait, and how a stream ends."""

import threading
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from threading import Event

import pytest

from extractor import Extractor
from extractor.dump import dump, reader
from extractor.dump.counts import Counts
from extractor.dump.gather import READY, Runs
from extractor.dump.reader import RUN_BYTES, RUN_ITEMS, RUNS_AHEAD, THREADS, read_ahead
from extractor.sources import Entry
from extractor.sources.entry import held

LIMIT_S = 30  # for what another thread does at once
LONG_S = 1000


def runs(stream: Iterator[str], *, max_items: float = 4, max_bytes: int = 100, max_s: float = LONG_S) -> Runs[str]:
    return Runs(stream, max_items=max_items, max_bytes=max_bytes, max_s=max_s, size=len)


def test_a_run_ends_with_its_items_or_bytes_and_the_last_with_the_stream() -> None:
    assert list(runs(iter("abcdefghi"))) == [["a", "b", "c", "d"], ["e", "f", "g", "h"], ["i"]]
    assert list(runs(iter(["a" * 60, "b" * 60, "c"]))) == [["a" * 60, "b" * 60], ["c"]]
    assert list(runs(iter(""))) == []


def test_a_stream_is_not_gathered_far_ahead() -> None:
    given = 0

    def stream() -> Iterator[str]:
        nonlocal given
        while True:
            given += 1
            yield "a"

    gathered = runs(stream())
    assert len(gathered.take()) == 4
    gathered.close()
    assert given <= (READY + 2) * 4


def test_what_a_stream_gave_does_not_wait_for_what_it_has_not() -> None:
    taken = Event()

    def stream() -> Iterator[str]:
        yield from "ab"
        assert taken.wait(LIMIT_S)
        yield "c"

    gathered = runs(stream(), max_s=0.05)
    assert gathered.take() == ["a", "b"]
    assert gathered.take(unless=lambda: True) == []
    taken.set()
    assert list(gathered) == [["c"]]


def test_an_error_comes_after_what_was_before_it() -> None:
    def stream() -> Iterator[str]:
        yield from "abcde"
        raise ValueError("broken off")

    gathered = iter(runs(stream()))
    assert [next(gathered), next(gathered)] == [["a", "b", "c", "d"], ["e"]]
    with pytest.raises(ValueError, match="broken off"):
        next(gathered)


def test_who_waits_for_a_run_or_something_else_is_told_of_either() -> None:
    released, done = Event(), Event()

    def stream() -> Iterator[str]:
        assert released.wait(LIMIT_S)
        yield "a"

    gathered = runs(stream())
    threading.Timer(0.1, lambda: (done.set(), gathered.look())).start()
    assert gathered.take(unless=done.is_set) == []
    released.set()
    assert list(gathered) == [["a"]]


def test_a_stream_is_closed_by_the_thread_that_has_iterated_it() -> None:
    threads, closed = set(), Event()

    def stream() -> Iterator[str]:
        try:
            while True:
                threads.add(threading.current_thread())
                yield "a"
        finally:
            threads.add(threading.current_thread())
            closed.set()

    gathered = runs(endless := stream())
    gathered.take()
    gathered.close()
    assert closed.wait(LIMIT_S)
    assert len(threads) == 1 and threading.current_thread() not in threads
    assert next(endless, None) is None


def test_who_waits_for_a_silent_stream_is_told_when_it_is_closed() -> None:
    released = Event()

    def stream() -> Iterator[str]:
        released.wait(LIMIT_S)
        yield "a"

    gathered = runs(stream())
    threading.Timer(0.1, gathered.close).start()
    assert list(gathered) == []
    released.set()


def test_what_is_held_is_content_that_is_here_and_what_is_carried_along() -> None:
    assert [held(value) for value in ("red", b"blue", None, 7, {"bytes": b"123", "path": None})] == [3, 4, 0, 0, 3]
    assert held(("ab", [0.5, 2.0], [b"abc"], None, [{"bytes": b"ab"}])) == 2 + 16 + 3 + 0 + 2


def test_slow_contents_are_read_by_all_threads() -> None:
    together = threading.Barrier(THREADS, timeout=LIMIT_S)

    class Far:
        def read(self, max_bytes: int) -> bytes:
            together.wait()
            return b"red"

    entries = (Entry(str(i), Far()) for i in range(THREADS))
    assert [one for _, one in read_ahead(entries, max_bytes=9, counts=Counts())] == THREADS * [b"red"]


def test_the_rest_of_a_run_does_not_wait_for_a_source_that_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    taken, n_items = Event(), 1 + RUN_ITEMS

    class Large:
        def read(self, max_bytes: int) -> bytes:
            return bytes(RUN_BYTES)

    def entries() -> Iterator[Entry]:
        yield from (Entry(str(i), Large()) for i in range(n_items))
        assert taken.wait(LIMIT_S), "each waited for more to be listed"

    monkeypatch.setattr(reader, "LIST_S", 2.0)
    for number, _ in enumerate(read_ahead(entries(), max_bytes=RUN_BYTES, counts=Counts()), 1):
        if number == n_items:
            taken.set()
    assert taken.is_set()


@pytest.mark.parametrize("carried", [False, True])
def test_entries_that_hold_many_bytes_are_listed_a_few_ahead(carried: bool) -> None:
    n_listed, one = 0, bytes(1 << 20)

    def entries() -> Iterator[Entry]:
        nonlocal n_listed
        for n_listed in range(1, 1000):
            yield Entry(str(n_listed), "red", None, (one,)) if carried else Entry(str(n_listed), one)

    read = read_ahead(entries(), max_bytes=2 << 20, counts=Counts())
    for _ in range(20):
        next(read)
    assert n_listed <= 20 + (RUNS_AHEAD + READY + 3) * RUN_BYTES // (1 << 20) < RUNS_AHEAD * RUN_ITEMS
    read.close()  # type: ignore[attr-defined]


def test_what_a_list_named_before_it_paused_is_committed(tmp_path: Path, tiny_text: Path) -> None:
    out, was_there, closed_by = tmp_path / "out", False, []

    class Pauses:
        columns: dict[str, str] = {}  # noqa: RUF012
        numbered = False

        def describe(self) -> dict[str, str]:
            return {"kind": "list", "place": "-"}

        def count(self) -> None:
            pass

        def entries(self) -> Iterator[Entry]:
            nonlocal was_there
            by = threading.current_thread()
            try:
                yield from (Entry(str(i), "red") for i in range(5))
                for _ in range(LIMIT_S * 20):
                    if was_there := bool(list(out.glob("part-*.parquet"))):
                        stop.set()
                        break
                    Event().wait(0.05)
                yield from (Entry(str(i), "red") for i in count(5))
            finally:
                closed_by.append(threading.current_thread() is by)
                closed.set()

    stop, closed = Event(), Event()
    with Extractor.load(tiny_text, cache="off") as extractor:
        assert dump(Pauses(), out, extractor, commit_s=0.1, stop=stop).committed >= 5
        assert was_there
        assert closed.wait(LIMIT_S) and closed_by == [True]
