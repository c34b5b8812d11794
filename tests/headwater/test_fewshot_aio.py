"""The asynchronous client and few-shot tasks, over a real port; the core is tested with the other client."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from classifiers.errors import InvalidLabels, TaskEmpty, TaskExists, TaskNotFound, VersionConflict
from extractor import Extractor
from extractor.errors import EmptyItem, UndecodableItem, UnreadableItem
from headwater import AsyncClient, Client
from headwater.errors import ClientClosed
from headwater.fewshot_aio import AsyncFewShotTask
from headwater.server import ServerSettings
from tests.heads import COLOURS, coloured, examples
from tests.inprocess import InProcess, in_this_process
from tests.lossy import lossy

NAME = "tiny-image"


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("fewshot-aio-home")
        patch.setenv("HEADWATER_HOME", str(folder))
        yield folder


@pytest.fixture(scope="module")
def extractor(tiny_image: Path) -> Extractor:
    return Extractor.load(tiny_image)


@pytest.fixture(scope="module")
def server(extractor: Extractor) -> Iterator[InProcess]:
    with in_this_process({NAME: extractor}, ServerSettings(port=0)) as one:
        yield one


@pytest.fixture
def direct(server: InProcess) -> Iterator[Client]:
    with Client(server.address, backbone=NAME, timeout_s=30) as one:
        yield one
        for task in one.tasks():
            one.delete_task(task.name)


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(main, 60))


async def taught(client: AsyncClient) -> AsyncFewShotTask:
    made = await client.create_task("colours", keep_items=True)
    await made.add(*examples(15), ids=[f"e{i}" for i in range(15)])
    return made


async def coloured_items(n: int) -> AsyncIterator[bytes]:
    for i in range(n):
        yield coloured(i % 3, i)


def test_teach_ask_look_change_and_delete(direct: Client, server: InProcess, tmp_path: Path) -> None:
    async def main() -> None:
        async with AsyncClient(server.address, backbone=NAME, timeout_s=30) as client:
            task = await taught(client)
            items = [coloured(1, 50), b"", tmp_path / "gone"]
            green, empty, gone = await task.classify(items, top=2, neighbours=1, with_items=True)
            assert green.ranking[0].label == "green"
            assert len(green.ranking) == 2
            assert green.neighbours[0].item.startswith(b"\x89PNG")
            assert isinstance(empty.error, EmptyItem)
            assert isinstance(gone.error, UnreadableItem)
            added = await task.add(coloured_items(4), [*COLOURS, "red"], notes=["first", "", "", ""], if_version=2)
            assert (added.version, added.n_new) == (3, 4)
            bad = await task.add([b"no image", coloured(0, 9)], ["red", "red"])
            assert isinstance(bad.failures[0], UndecodableItem)
            assert await task.remove(bad.ids) == 5
            assert await task.relabel({"e0": "blue"}) == 6
            assert await task.rename_class("blue", "navy") == 7
            assert await task.merge_classes(["navy"], "green") == 8
            assert await task.remove_class("green") == 9
            assert await task.undo(4) == 10
            assert dict((await task.info()).classes) == {"blue": 6, "green": 6, "red": 7}
            assert [change.kind for change in await task.changes(2)] == ["undo", "remove class"]
            assert (await task.update(method="class-mean")).settings.method == "class-mean"
            found = [one async for one in task.examples(label="red", with_embeddings=True)]
            assert len(found) == 7
            assert found[0].embedding is not None
            assert [one.note for one in found if one.note] == ["first"]
            assert [one.name for one in await client.tasks()] == ["colours"]
            assert (await client.task("colours")).fingerprint == task.fingerprint
            with pytest.raises(VersionConflict):
                await task.delete(if_version=1)
            await task.delete()
            with pytest.raises(TaskNotFound):
                await client.task("colours")
            with pytest.raises(TaskEmpty):
                await (await client.create_task("empty", labels=["a"])).classify([coloured(0, 0)])

    run(main())


def test_labels_are_as_many_as_items(direct: Client, server: InProcess) -> None:
    async def main() -> None:
        async with AsyncClient(server.address, backbone=NAME) as client:
            task = await client.create_task("few")
            for n in (1, 3):
                with pytest.raises(InvalidLabels):
                    await task.add(coloured_items(2), ["red"] * n)
            assert (await task.info()).version == 1

    run(main())


def test_items_of_any_number_come_in_order_or_as_they_are_done(direct: Client, server: InProcess) -> None:
    async def main() -> None:
        async with AsyncClient(server.address, backbone=NAME, timeout_s=30) as client:
            task = await taught(client)
            told = [one async for one in task.iter_classifications(coloured_items(150))]
            assert [one.ranking[0].label for one in told] == [COLOURS[i % 3] for i in range(150)]
            found = {position: one async for position, one in task.iter_unordered(coloured_items(150))}
            assert [found[i].ranking[0].label for i in range(150)] == [COLOURS[i % 3] for i in range(150)]

    run(main())


def test_embeddings_and_examples_in_one_call(direct: Client, server: InProcess, extractor: Extractor) -> None:
    mark = extractor.fingerprint

    async def main() -> None:
        async with AsyncClient(server.address, backbone=NAME, timeout_s=30) as client:
            task = await client.create_task("rows")
            X = (np.eye(3)[[0, 1, 2] * 400] * 100 + np.arange(1200)[:, None] % 7).astype(np.float32)
            assert (await task.add_embeddings(X, [*COLOURS] * 400, fingerprint=mark)).version == 3
            told = await task.classify_embeddings(X, fingerprint=mark)
            assert [one.ranking[0].label for one in told] == [*COLOURS] * 400
            rows = await client.classify_with_example_embeddings(np.eye(3), COLOURS, [[0, 0, 9]], fingerprint=mark)
            assert rows[0].ranking[0].label == "blue"
            contents, labels = examples(6)
            told = await client.classify_with_examples(contents, labels, coloured_items(3))
            assert [one.ranking[0].label for one in told] == list(COLOURS)
            pool = await task.suggest_embeddings(X[:50], 4, fingerprint=mark)
            assert len(set(pool.positions)) == 4

    run(main())


def test_a_pool_an_audit_and_a_file(direct: Client, server: InProcess, tmp_path: Path) -> None:
    async def main() -> None:
        async with AsyncClient(server.address, backbone=NAME, timeout_s=30) as client:
            task = await taught(client)
            told = await task.suggest([b"", *(coloured(i % 3, i) for i in range(70))], 3)
            assert len(told.items) == 3
            assert isinstance(told.failures[0], EmptyItem)
            with pytest.raises(RuntimeError, match="of the caller"):
                await task.suggest(broken())
            assert (await task.audit(5)).version == 2
            await task.export(tmp_path / "colours.sqlite")
            copy = await client.import_task(tmp_path / "colours.sqlite", name="copy")
            assert (await copy.info()).n_examples == 15
            with pytest.raises(TaskExists):
                await client.import_task(tmp_path / "colours.sqlite")
            assert [path.name for path in tmp_path.iterdir()] == ["colours.sqlite"]

    run(main())


async def broken() -> AsyncIterator[bytes]:
    yield coloured(0, 0)
    raise RuntimeError("of the caller")


def test_an_add_whose_answer_was_lost_adds_nothing_twice(direct: Client, server: InProcess) -> None:
    made = direct.create_task("lost")

    async def main(target: str, lose: Any) -> None:
        async with AsyncClient(target, timeout_s=30) as client:
            task = await client.task("lost")
            await client.describe(NAME)
            lose(lambda: made.info().n_examples == 6)
            assert (await task.add(*examples(6))).n_new == 6

    with lossy(server.address) as way:
        run(main(way.target, way.lose))
        assert way.n_cut == 1
    assert made.info().n_examples == 6


def test_a_closed_client_says_so(direct: Client, server: InProcess) -> None:
    async def main() -> None:
        async with AsyncClient(server.address, backbone=NAME) as client:
            task = await taught(client)
        for call in (task.info(), task.audit(), task.suggest([b"x"])):
            with pytest.raises(ClientClosed):
                await call

    run(main())
