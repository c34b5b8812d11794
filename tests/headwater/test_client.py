"""Both clients against the real server: what they give, how far they read ahead, and how they end."""

import asyncio
import itertools
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from extractor import Extractor
from extractor.errors import EmptyItem, ItemTooLarge, UndecodableItem, UnreadableItem
from extractor.limits import Limits
from headwater import AsyncClient, Client
from headwater.core import FIRST_ANSWER_S
from headwater.errors import ClientClosed, ServiceError
from headwater.exchange import MAX_ITEMS, REQUESTS_IN_FLIGHT
from headwater.flow import WINDOW
from headwater.process import ServerProcess
from headwater.server import ServerSettings
from tests.inprocess import in_this_process
from tests.tiny import flat, png

WAIT_S = 20
NAME = "tiny-image"
TEXT = "tiny-text"


async def listed(outcomes: AsyncIterator[Any]) -> list[Any]:
    return [one async for one in outcomes]


def unordered(server: ServerProcess, items: Any, give: Callable = bool, **options: Any) -> list[Any]:
    found = []
    with Client(server.target, backbone=TEXT) as client:
        for one in client.iter_unordered(items, **options):
            give(one)
            found.append(one)
    return found


def async_unordered(server: ServerProcess, items: Any, give: Callable = bool, **options: Any) -> list[Any]:
    async def main() -> list[Any]:
        found = []
        async with AsyncClient(server.target, backbone=TEXT) as client:
            async for one in client.iter_unordered(items, **options):
                give(one)
                found.append(one)
        return found

    return asyncio.run(main())


@pytest.mark.parametrize("face", [unordered, async_unordered])
def test_a_stream_of_5000_items_is_read_no_further_than_the_window(server: ServerProcess, face: Callable) -> None:
    n_read = n_given = furthest = 0

    def items() -> Iterator[str]:
        nonlocal n_read, furthest
        for i in range(5000):
            n_read += 1
            furthest = max(furthest, n_read - n_given)
            yield f"red {i}"

    def give(_: object) -> None:
        nonlocal n_given
        n_given += 1

    found = face(server, items(), give)
    assert sorted(position for position, _ in found) == list(range(5000))
    assert all(outcome.embedding is not None for _, outcome in found)
    assert 32 < furthest <= WINDOW + 1  # and the one that is being given


@pytest.mark.parametrize("face", [unordered, async_unordered])
def test_a_reader_that_pauses_stops_the_reading_of_items(server: ServerProcess, face: Callable) -> None:
    n_read = 0

    def items() -> Iterator[str]:
        nonlocal n_read
        for i in itertools.count():
            n_read = i + 1
            yield f"green {i}"

    async def main() -> None:
        async with AsyncClient(server.target, backbone=TEXT) as client:
            stream = client.iter_unordered(items())
            await anext(stream)
            await asyncio.sleep(0.3)
            assert n_read <= WINDOW + 1
            await stream.aclose()

    if face is async_unordered:
        asyncio.run(main())
        return
    with Client(server.target, backbone=TEXT) as client:
        stream = client.iter_unordered(items())
        next(stream)
        time.sleep(0.3)
        assert n_read <= WINDOW + 1
        stream.close()


@pytest.mark.parametrize("face", [unordered, async_unordered])
def test_bad_items_in_a_stream_have_their_own_errors(server: ServerProcess, tmp_path: Path, face: Callable) -> None:
    items = ["red", " ", "x" * (16 << 20) + "x", b"\xff", tmp_path / "no", "dog"]
    found = dict(face(server, items))
    assert sorted(found) == list(range(6))
    assert [type(found[i].error).__name__ for i in range(6)] == [
        "NoneType",
        EmptyItem.__name__,
        ItemTooLarge.__name__,
        UndecodableItem.__name__,
        "UnreadableItem",
        "NoneType",
    ]
    unsendable = dict(face(server, [tmp_path / str(i) for i in range(2 * WINDOW)]))
    assert len(unsendable) == 2 * WINDOW
    assert face(server, []) == []


@pytest.mark.parametrize("face", [unordered, async_unordered])
def test_what_reading_the_items_raises_comes_after_the_outcomes(server: ServerProcess, face: Callable) -> None:
    def items() -> Iterator[str]:
        yield from ("red", "green")
        raise LookupError("no more")

    dones: list[int] = []
    with pytest.raises(LookupError, match="no more"):
        face(server, items(), progress=lambda done, _: dones.append(done))
    assert dones[-1] == 2
    with pytest.raises(TypeError, match="not int"):
        face(server, [1])
    with pytest.raises(TypeError, match="single str"):
        face(server, "red")


@pytest.mark.parametrize("face", [unordered, async_unordered])
@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, asyncio.CancelledError])
@pytest.mark.timeout(60)
def test_what_ends_a_program_ends_a_stream_too(server: ServerProcess, face: Callable, kind: type) -> None:
    def items() -> Iterator[str]:
        yield "red"
        raise kind("enough")

    with pytest.raises(kind):
        face(server, items())


def test_a_live_source_is_answered_item_by_item(server: ServerProcess) -> None:
    heard = threading.Event()

    def items() -> Iterator[str]:
        yield "red"
        assert heard.wait(WAIT_S)
        yield "green"

    with Client(server.target, backbone=TEXT) as client:
        for position, _ in client.iter_unordered(items()):
            assert position == 0 or heard.is_set()
            heard.set()


def test_both_faces_give_the_same(server: ServerProcess, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(flat(1, 2, 3)))
    items = [*(png(flat(i % 256, i // 256)) for i in range(300)), b"", flat(9), tmp_path / "a.png", tmp_path / "no"]

    async def each() -> AsyncIterator[Any]:
        for item in items:
            yield item

    async def main() -> tuple[Any, ...]:
        async with AsyncClient(server.target, backbone=NAME) as client:
            described, served = await client.describe(), await client.backbones()
            return await client.extract_each(items), await client.extract_each(each()), described, served

    with Client(server.target, backbone=NAME) as client:
        here = client.extract_each(items)
        there, streamed, described, served = asyncio.run(main())
        assert (described, served) == (client.describe(), client.backbones())
        found = dict(client.iter_unordered(items))
    for other in (there, streamed, [found[i] for i in range(len(items))]):
        for one, two in zip(here, other, strict=True):
            assert (type(one.error), str(one.error)) == (type(two.error), str(two.error))
            assert one.error or one.embedding.tobytes() == two.embedding.tobytes()


def test_64_calls_at_once_in_one_loop(server: ServerProcess) -> None:
    async def main() -> list[np.ndarray]:
        async with AsyncClient(server.target, backbone=NAME) as client:
            calls = (client.extract([png(flat(i, j)) for j in range(70)]) for i in range(64))
            return await asyncio.gather(*calls)

    found = asyncio.run(main())
    assert [(array[-1, 0], array[-1, 1], len(array)) for array in found] == [(i, 69, 70) for i in range(64)]


def test_progress_counts_every_item_once(server: ServerProcess) -> None:
    told: list[tuple[int, int | None]] = []
    items = [b"" if i % 10 == 0 else png(flat(i % 256)) for i in range(300)]
    with Client(server.target, backbone=NAME) as client:
        client.extract_each(items, progress=lambda done, total: told.append((done, total)))
        assert told[-1] == (300, 300)
        assert told == sorted(told)
        assert len(told) >= 5
        told.clear()
        client.extract(iter(items[1:5]), progress=lambda done, total: told.append((done, total)))
        assert told == [(4, None)]

        told.clear()
        assert len(list(client.iter_unordered(items, progress=lambda *both: told.append(both)))) == 300
        assert told[-1] == (300, 300)
        assert told == sorted(told)


def test_a_closed_client_says_so(server: ServerProcess) -> None:
    with Client(server.target, backbone=NAME) as client:
        client.describe()
    for call in (client.extract, client.extract_each, lambda items: list(client.iter_unordered(items))):
        with pytest.raises(ClientClosed, match="make another one"):
            call([png(flat(1))])
    with pytest.raises(ClientClosed):
        client.backbones()

    async def main() -> None:
        async with AsyncClient(server.target, backbone=NAME) as other:
            await other.describe()
        with pytest.raises(ClientClosed):
            await other.extract([png(flat(1))])
        with pytest.raises(ClientClosed):
            await listed(other.iter_unordered([png(flat(1))]))

    asyncio.run(main())


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.backbones(),
        lambda client: client.extract(["red"]),
        lambda client: list(client.iter_unordered(["red"])),
    ],
)
def test_a_client_that_another_thread_closes_at_this_moment_says_so(
    server: ServerProcess, monkeypatch: pytest.MonkeyPatch, call: Callable[[Client], object]
) -> None:
    client = Client(server.target, backbone=TEXT)
    client.describe()
    check = client._check_open

    def check_and_close() -> None:
        check()
        client.close()

    monkeypatch.setattr(client, "_check_open", check_and_close)
    with pytest.raises(ClientClosed):
        call(client)


def test_a_backbone_that_another_thread_forgets_at_this_moment_is_asked_for_again(server: ServerProcess) -> None:
    class Forgetful(dict[str, Any]):
        def __contains__(self, key: object) -> bool:
            found = super().__contains__(key)
            self.clear()
            return found

    with Client(server.target, backbone=TEXT) as client:
        client._known = Forgetful({TEXT: client.describe()})
        assert client.describe().name == TEXT


def test_what_takes_connections_and_says_nothing_is_given_up_as_soon_as_what_takes_none() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        begun = time.monotonic()
        with Client(f"127.0.0.1:{silent.getsockname()[1]}") as client, pytest.raises(ServiceError, match="UNAVAILABLE"):
            client.backbones()
    assert time.monotonic() - begun < 2 * FIRST_ANSWER_S


# What needs a session that is slow on purpose: a server in this process.


@pytest.fixture
def held(tiny_image: Path) -> Iterator[tuple[str, Extractor, threading.Event, threading.Event]]:
    """A server whose session waits: its address, its extractor, an event that it sets, and one that lets it go on."""
    limits = Limits(max_queue_size=128)
    extractor = Extractor.load(tiny_image, cache="memory", workers=1, max_batch_size=1, window=1, limits=limits)
    forward = extractor.backbone.forward
    entered, go = threading.Event(), threading.Event()

    def hold(arrays: list[np.ndarray]) -> np.ndarray:
        entered.set()
        assert go.wait(WAIT_S)
        return forward(arrays)

    extractor._batcher._forward = hold
    with in_this_process({NAME: extractor}) as server:
        yield server.address, extractor, entered, go
        go.set()


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def aloft(extractor: Extractor) -> int:
    return len(extractor._flights._aloft)


@pytest.mark.parametrize("streaming", [False, True])
def test_closing_a_client_ends_the_calls_that_run(held: Any, streaming: bool) -> None:
    address, extractor, entered, _ = held
    caught: list[BaseException] = []
    client = Client(address)
    client.describe()

    def call() -> None:
        items = [png(flat(i)) for i in range(5)]
        try:
            list(client.iter_unordered(items) if streaming else client.iter_outcomes(items))
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    assert entered.wait(WAIT_S)
    client.close()
    thread.join(WAIT_S)
    assert [type(one) for one in caught] == [ClientClosed]
    wait_for(lambda: aloft(extractor) == 1)  # the one in hand


@pytest.mark.parametrize("streaming", [False, True])
def test_closing_an_async_client_ends_the_calls_that_run(held: Any, streaming: bool) -> None:
    address, extractor, entered, _ = held

    async def main() -> None:
        client = AsyncClient(address)
        items = [png(flat(i)) for i in range(5)]
        call = asyncio.create_task(
            listed(client.iter_unordered(items) if streaming else client.iter_outcomes(items)),
        )
        await asyncio.to_thread(entered.wait, WAIT_S)
        await client.close()
        with pytest.raises(ClientClosed):
            await call

    asyncio.run(asyncio.wait_for(main(), WAIT_S))
    wait_for(lambda: aloft(extractor) == 1)  # the one in hand


def test_closing_an_async_client_ends_a_stream_that_waits_for_items(server: ServerProcess) -> None:
    async def items() -> AsyncIterator[str]:
        yield "red"
        await asyncio.Event().wait()

    async def main() -> None:
        client = AsyncClient(server.target, backbone=TEXT)
        stream = client.iter_unordered(items())
        await anext(stream)
        rest = asyncio.create_task(listed(stream))
        await asyncio.sleep(0)
        await client.close()
        with pytest.raises(ClientClosed):
            await rest

    asyncio.run(asyncio.wait_for(main(), WAIT_S))


def test_a_task_that_is_cancelled_as_its_client_closes_is_cancelled(held: Any) -> None:
    address, _, entered, _ = held

    async def main() -> None:
        client = AsyncClient(address)
        call = asyncio.create_task(client.extract([png(flat(1))]))
        await asyncio.to_thread(entered.wait, WAIT_S)
        call.cancel()
        await client.close()
        await asyncio.wait([call])
        assert call.cancelled()

    asyncio.run(asyncio.wait_for(main(), WAIT_S))


def test_an_async_stream_that_is_left_half_way_ends_at_once(held: Any) -> None:
    address, extractor, _, go = held

    async def main() -> None:
        async with AsyncClient(address) as client:
            stream = client.iter_unordered([b""] + [png(flat(i)) for i in range(40)])
            assert (await anext(stream))[0] == 0
            while aloft(extractor) < 40:
                await asyncio.sleep(0.01)
            inner = stream.ag_frame.f_locals["outcomes"]
            await stream.aclose()
            assert inner.ag_frame is None  # it has ended, and with it the call
            while aloft(extractor) > 1:
                await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(main(), WAIT_S))
    go.set()


def test_what_comes_after_a_bad_item_is_not_asked_for(held: Any, tmp_path: Path) -> None:
    address, extractor, _, go = held
    items: list[Any] = [png(flat(i % 256, i // 256)) for i in range(REQUESTS_IN_FLIGHT * MAX_ITEMS * 3)]
    items[: MAX_ITEMS - 1] = [items[0]] * (
        MAX_ITEMS - 1
    )  # the first request needs the cache alone, and not the session
    items[MAX_ITEMS - 1] = tmp_path / "gone.png"
    go.set()
    with Client(address) as client:
        client.extract(items[:1])
    go.clear()

    async def main() -> None:
        async with AsyncClient(address) as client:
            with pytest.raises(UnreadableItem, match=f"item {MAX_ITEMS - 1}"):
                await client.extract(items)

    asyncio.run(asyncio.wait_for(main(), WAIT_S))
    with Client(address) as client:
        with pytest.raises(UnreadableItem, match=f"item {MAX_ITEMS - 1}") as caught:
            client.extract(items)
        wait_for(lambda: aloft(extractor) <= 1)
    assert caught.traceback  # which holds the frames of the call; its requests have ended all the same
    go.set()


def test_a_cancelled_task_frees_the_queue(held: Any) -> None:
    address, extractor, _, go = held

    async def main() -> None:
        async with AsyncClient(address) as client:
            items = [png(flat(i)) for i in range(20)]
            calls = [
                asyncio.create_task(client.extract(items[:10])),
                asyncio.create_task(listed(client.iter_unordered(items[10:]))),
            ]
            while aloft(extractor) < 20:
                await asyncio.sleep(0.01)
            for call in calls:
                call.cancel()
            await asyncio.wait(calls)
            assert all(call.cancelled() for call in calls)
            while aloft(extractor) > 1:
                await asyncio.sleep(0.01)
            go.set()
            assert (await client.extract([png(flat(200))])).tolist() == [[200, 0, 0]]

    asyncio.run(asyncio.wait_for(main(), WAIT_S))


def test_a_stream_that_is_left_half_way_frees_the_queue(held: Any) -> None:
    address, extractor, _, go = held
    with Client(address) as client:
        items = [b""] + [png(flat(i)) for i in range(40)]
        stream = client.iter_unordered(items)
        assert next(stream)[0] == 0
        wait_for(lambda: aloft(extractor) >= 40)
        stream.close()
        wait_for(lambda: aloft(extractor) <= 1)
        go.set()


KILLED = """
import sys
from headwater import Client
from tests.tiny import flat, png
with Client(sys.argv[1]) as client:
    for _ in client.iter_unordered(png(flat(i)) for i in range(60)):
        pass
"""


def test_a_client_that_is_killed_leaves_no_work(held: Any) -> None:
    address, extractor, _, go = held
    with subprocess.Popen([sys.executable, "-c", KILLED, address], cwd=Path(__file__).parents[2]) as process:
        wait_for(lambda: aloft(extractor) == 60)
        process.kill()
        wait_for(lambda: aloft(extractor) == 1)
    go.set()
    with Client(address) as client:
        assert client.extract([png(flat(7))]).tolist() == [[7, 0, 0]]


@pytest.mark.parametrize("streaming", [False, True])
def test_a_second_server_takes_up_what_the_first_left(tiny_image: Path, streaming: bool) -> None:
    items = [png(flat(i % 256, i // 256)) for i in range(400)]
    computed: list[tuple[int, int]] = []

    def slow() -> Extractor:
        extractor = Extractor.load(tiny_image, workers=1, max_batch_size=1, window=1)
        forward = extractor.backbone.forward

        def slowly(arrays: list[np.ndarray]) -> np.ndarray:
            time.sleep(0.002)
            computed.extend((int(array[0, 0, 1]), int(array[0, 0, 0])) for array in arrays)
            return forward(arrays)

        extractor._batcher._forward = slowly
        return extractor

    with in_this_process({NAME: slow()}) as first, Client(first.address) as client:
        outcomes = client.iter_unordered(items) if streaming else enumerate(client.iter_outcomes(items))
        found = [next(outcomes)]
        first.stop()
        found += itertools.islice(outcomes, 5)
        settings = ServerSettings(port=int(first.address.rpartition(":")[2]))
        first.join()
        with in_this_process({NAME: slow()}, settings):
            found += outcomes
    assert sorted(position for position, _ in found) == list(range(400))
    for position, outcome in found:
        assert outcome.embedding[:2].tolist() == [position % 256, position // 256]
    assert len(computed) <= 400 + REQUESTS_IN_FLIGHT * MAX_ITEMS
    assert max(Counter(computed).values()) <= 2
