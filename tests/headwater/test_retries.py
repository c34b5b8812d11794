"""Both clients against servers in trouble: what they ask again, when, and when they give up."""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pytest

from extractor.errors import BackboneChanged, QueueFull, RequestTooLarge
from extractor.outcome import Outcome
from headwater import AsyncClient, Client
from headwater.errors import ServiceError
from tests.scripted import Scripted, embedded, enough, except_for, refused, scripted

WAIT_S = 20
Face = Callable[..., list[Outcome]]


def listed(server: Scripted, n: int, **options: Any) -> list[Outcome]:
    with Client(server.target, **options) as client:
        return client.extract_each(items(n))


def async_listed(server: Scripted, n: int, **options: Any) -> list[Outcome]:
    async def main() -> list[Outcome]:
        async with AsyncClient(server.target, **options) as client:
            return await client.extract_each(items(n))

    return asyncio.run(main())


def streamed(server: Scripted, n: int, **options: Any) -> list[Outcome]:
    with Client(server.target, **options) as client:
        found = list(client.iter_unordered(items(n)))
    return in_order(found)


def async_streamed(server: Scripted, n: int, **options: Any) -> list[Outcome]:
    async def main() -> list[tuple[int, Outcome]]:
        async with AsyncClient(server.target, **options) as client:
            return [one async for one in client.iter_unordered(items(n))]

    return in_order(asyncio.run(main()))


def in_order(found: list[tuple[int, Outcome]]) -> list[Outcome]:
    assert len({position for position, _ in found}) == len(found)
    return [outcome for _, outcome in sorted(found, key=lambda one: one[0])]


def items(n: int) -> list[str]:
    return [str(i) for i in range(n)]


def values(outcomes: list[Outcome]) -> list[float]:
    return [float(outcome.embedding[0]) for outcome in outcomes if outcome.embedding is not None]


every_face = pytest.mark.parametrize("face", [listed, async_listed, streamed, async_streamed])
list_faces = pytest.mark.parametrize("face", [listed, async_listed])
stream_faces = pytest.mark.parametrize("face", [streamed, async_streamed])

EXHAUSTED, UNAVAILABLE = grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE


@every_face
def test_a_pushback_is_waited_for_and_then_all_is_answered(face: Face) -> None:
    with scripted(refused(EXHAUSTED, 60), refused(EXHAUSTED, 60)) as server:
        assert values(face(server, 4)) == [0, 1, 2, 3]
        assert server.asked[0] == server.asked[1][: len(server.asked[0])]
        assert np.diff(server.times[:3]).min() >= 0.06


@every_face
def test_a_server_that_breaks_is_asked_again(face: Face) -> None:
    with scripted(refused(UNAVAILABLE), refused(UNAVAILABLE)) as server:
        assert values(face(server, 4)) == [0, 1, 2, 3]
        assert len(server.asked) >= 3


@every_face
@pytest.mark.parametrize(
    ("code", "pushback_ms"), [(EXHAUSTED, -1), (grpc.StatusCode.ABORTED, None), (grpc.StatusCode.INTERNAL, None)]
)
def test_what_is_of_no_use_is_not_repeated(face: Face, code: grpc.StatusCode, pushback_ms: int | None) -> None:
    with scripted(refused(code, pushback_ms)) as server, pytest.raises(ServiceError) as caught:
        face(server, 4)
    assert caught.value.code is code
    assert len(server.asked) == 1


@every_face
def test_only_what_was_not_answered_is_asked_again(face: Face) -> None:
    with scripted(except_for(QueueFull("full"), 1, 3), except_for(QueueFull("full"), 1)) as server:
        assert values(face(server, 4)) == [0, 1, 2, 3]
        times_asked = np.bincount([one for some in server.asked for one in some])
        assert (times_asked[0], times_asked[2]) == (1, 1)
        assert times_asked[1] >= 2
    assert sorted(server.answered) == [0, 1, 2, 3]


@every_face
def test_an_items_own_error_is_an_answer(face: Face) -> None:
    with scripted(*[except_for(RequestTooLarge("it never fits"), 2)] * 4) as server:
        outcomes = face(server, 4)
        assert sorted(one for some in server.asked for one in some) == [0, 1, 2, 3]
    assert isinstance(outcomes[2].error, RequestTooLarge)
    assert values(outcomes) == [0, 1, 3]


@every_face
def test_an_item_that_stays_refused_keeps_its_error_once_the_time_is_over(face: Face) -> None:
    with scripted(*[except_for(QueueFull("full"), 0)] * 100) as server:
        outcomes = face(server, 1, timeout_s=0.4)
        assert len(server.asked) > 1
    assert isinstance(outcomes[0].error, QueueFull)


@every_face
def test_no_try_goes_beyond_the_deadline(face: Face) -> None:
    with scripted(*[refused(UNAVAILABLE)] * 100) as server, pytest.raises(ServiceError) as caught:
        face(server, 4, timeout_s=1.0)
    assert caught.value.code is UNAVAILABLE  # although the deadline may have cut the last try
    assert 1 < len(server.asked) < 100
    assert server.times[-1] < server.times[0] + 3.0  # far less than all the pauses would be
    with scripted(refused(EXHAUSTED, 60_000)) as server, pytest.raises(ServiceError) as caught:
        begun = time.monotonic()
        face(server, 4, timeout_s=1.0)
    assert caught.value.code is EXHAUSTED
    assert time.monotonic() < begun + 20  # it did not wait to be refused
    assert len(server.asked) == 1


@every_face
def test_a_server_that_never_answers_is_given_up(face: Face) -> None:
    over = threading.Event()

    def hang(some: list[bytes], _: Any) -> list[Outcome]:
        over.wait(WAIT_S)
        return embedded(some)

    with scripted(hang) as server:
        with pytest.raises(ServiceError) as caught:
            face(server, 4, timeout_s=0.3)
        over.set()
    assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED


@every_face
def test_a_try_that_the_deadline_cuts_tells_what_refused_those_before_it(face: Face) -> None:
    over = threading.Event()

    def hang(some: list[bytes], _: Any) -> list[Outcome]:
        over.wait(WAIT_S)
        return embedded(some)

    with scripted(refused(UNAVAILABLE), hang) as server:
        with pytest.raises(ServiceError, match="as it is written") as caught:
            face(server, 4, timeout_s=1.0)
        over.set()
    assert caught.value.code is UNAVAILABLE
    assert len(server.asked) == 2


def test_a_call_that_the_deadline_cuts_tells_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    over, calls = threading.Event(), []

    def describe(_: Scripted, __: Any, context: grpc.ServicerContext) -> None:
        calls.append(1)
        if len(calls) > 1:
            over.wait(WAIT_S)
        context.abort(UNAVAILABLE, "as it is written")

    monkeypatch.setattr(Scripted, "GetBackbone", describe)
    with scripted() as server, Client(server.target, timeout_s=1.0) as client:
        with pytest.raises(ServiceError, match="as it is written") as caught:
            client.describe()
        over.set()
    assert caught.value.code is UNAVAILABLE
    assert len(calls) == 2


@list_faces
def test_the_others_go_on_while_one_waits(face: Face) -> None:
    with scripted(refused(EXHAUSTED, 300)) as server:
        assert values(face(server, 40)) == list(range(40))
        again = [i for i, some in enumerate(server.asked) if some == server.asked[0]]
        assert again == [0, len(server.asked) - 1] == [0, 10]


@stream_faces
def test_a_stream_that_breaks_is_taken_up_with_what_is_unanswered(face: Face) -> None:
    with scripted(embedded, embedded, refused(UNAVAILABLE), embedded, refused(EXHAUSTED, 1), enough) as server:
        assert values(face(server, 40)) == list(range(40))
        assert sorted(server.answered) == list(range(40))  # what was answered is not asked again
        assert sum(map(len, server.asked)) > 40


@stream_faces
def test_an_item_that_a_server_forgets_is_told_of(face: Face) -> None:
    with (
        scripted(*[lambda some, _: embedded(some)[:1]] * 4) as server,
        pytest.raises(ServiceError, match=r"none of \d items was answered within 0.4 s") as caught,
    ):
        face(server, 12, timeout_s=0.4)
    assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED


@stream_faces
def test_the_status_of_a_stream_is_heard_however_much_is_sent(face: Face) -> None:
    aborted = refused(grpc.StatusCode.ABORTED)
    with scripted(aborted, aborted) as server, pytest.raises(ServiceError) as caught:
        face(server, 100)
    assert caught.value.code is grpc.StatusCode.ABORTED


@list_faces
def test_an_answer_with_too_few_outcomes_is_an_error(face: Face) -> None:
    with scripted(lambda some, _: embedded(some)[:-1]) as server, pytest.raises(ServiceError) as caught:
        face(server, 4)
    assert "3 outcomes for 4 items" in str(caught.value)


def test_a_backbone_that_changed_is_told_and_the_next_call_begins_anew() -> None:
    with scripted() as server, Client(server.target) as client:
        client.extract(items(4))
        for ask in (client.extract_each, lambda some: list(client.iter_unordered(some))):
            server.fingerprint = server.fingerprint[1:] + "b"
            with pytest.raises(BackboneChanged):
                ask(items(4))
            assert len(ask(items(4))) == 4


def test_outcomes_before_an_error_are_given_first() -> None:
    def only_the_first(some: list[bytes], context: grpc.ServicerContext) -> list[Outcome]:
        """Answer by what is asked: requests that are on their way at once come in any order."""
        return (embedded if b"0" in some else refused(grpc.StatusCode.INTERNAL))(some, context)

    with scripted(*[only_the_first] * 10) as server, Client(server.target) as client:
        outcomes = client.iter_outcomes(items(40))
        first = [next(outcomes) for _ in range(4)]
        assert values(first) == [0, 1, 2, 3]
        with pytest.raises(ServiceError):
            list(outcomes)
