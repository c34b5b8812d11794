"""Both clients and heads, over a real port: what a user writes."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import pytest

from classifiers.errors import InvalidOption, TooFewExamples
from extractor import Extractor
from extractor.errors import BackboneChanged, EmptyItem, UndecodableItem, UnreadableItem
from headwater import AsyncClient, Client, head_calls
from headwater.errors import HeadInUse, HeadNotFound, JobCancelled, JobNotFound, JobsFull, ServiceError
from headwater.prediction import Prediction
from headwater.server import ServerSettings
from headwater.service import jobs
from tests.heads import COLOURS, coloured, examples, keep, left_over
from tests.inprocess import InProcess, in_this_process
from tests.tiny import flat, write_tiny_dense

NAME = "tiny-image"
SLOW_ROWS, SLOW_LABELS = 20_000, 40


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("client-home")
        patch.setenv("HEADWATER_HOME", str(folder))
        yield folder


@pytest.fixture(scope="module")
def extractor(tiny_image: Path) -> Extractor:
    return Extractor.load(tiny_image)


@pytest.fixture(scope="module")
def server(extractor: Extractor, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    other = Extractor.load(write_tiny_dense(tmp_path_factory.mktemp("other") / "tiny-dense"))
    with in_this_process({NAME: extractor, "tiny-dense": other}, ServerSettings(port=0)) as one:
        yield one


@pytest.fixture
def client(server: InProcess) -> Iterator[Client]:
    with Client(server.address, backbone=NAME, timeout_s=30) as one:
        yield one


def slow() -> tuple[np.ndarray, list[str]]:
    X = np.random.default_rng(0).normal(size=(SLOW_ROWS, 3)).astype(np.float32)
    return X, [f"label {i % SLOW_LABELS}" for i in range(SLOW_ROWS)]


def test_train_then_predict(client: Client, tmp_path: Path) -> None:
    contents, labels = examples(90)  # two messages
    contents[4:4] = [tmp_path / "gone.png"]
    labels[4:4] = ["red"]
    sent: list[tuple[int, int | None]] = []
    job = client.train_head("colours", [*contents, b"no image"], [*labels, "red"], progress=lambda *at: sent.append(at))
    assert isinstance(job.unsent[4], UnreadableItem)
    states = [(info.state, info.step) for info in job]
    assert states[-1] == ("done", "")
    done = job.result()
    assert (done.version, done.examples, done.failed_items) == ("colours@1", 90, 1)
    assert isinstance(done.failures[90], UndecodableItem)
    assert done.metrics["cv_accuracy"] == 1.0
    assert sent[-1][0] <= 91
    assert client.job(job.id) == done
    assert client.jobs()[0] == done
    assert list(client.watch_job(job.id)) == [done]
    told = client.predict("colours", [coloured(i % 3, 1000 + i) for i in range(200)] + [b"", tmp_path / "gone"], top=2)
    assert [one.ranking[0].label for one in told[:200]] == [COLOURS[i % 3] for i in range(200)]
    assert all((one.label is None) == one.unknown for one in told[:200])
    assert sum(one.unknown for one in told[:200]) < 40  # about one in twenty
    assert all(one.head == "colours@1" and one.probability > 0.5 and len(one.ranking) == 2 for one in told[:200])
    assert isinstance(told[200].error, EmptyItem)
    assert isinstance(told[201].error, UnreadableItem)
    assert told[200].label is None


def test_embeddings_are_asked_about_and_trained_on(client: Client, extractor: Extractor) -> None:
    keep("fixed", extractor.fingerprint, threshold=0.9)
    X = np.array([[300, 0, 0], [5, 5, 5]] * 700, np.float32)
    told = client.predict_embeddings("fixed", X, fingerprint=extractor.fingerprint)
    assert len(told) == 1400
    assert told[0] == Prediction(
        label="red", probability=told[0].probability, score=told[0].score, ranking=told[0].ranking, head="fixed@1"
    )
    assert (told[1].label, told[1].unknown, told[1].probability) == (None, True, pytest.approx(1 / 3))
    with pytest.raises(BackboneChanged):
        client.predict_embeddings("fixed", X, fingerprint="0" * 32)
    rng = np.random.default_rng(0)
    X = (rng.normal(size=(60, 3)) + 10 * np.eye(3)[[0, 1, 2] * 20]).astype(np.float32)
    job = client.train_head_on_embeddings("rows", X, [*COLOURS] * 20, fingerprint=extractor.fingerprint, activate=False)
    assert job.result().metrics["cv_accuracy"] == 1.0
    with pytest.raises(HeadNotFound, match="no version 'production'"):
        client.predict("rows", [])
    with pytest.raises(ValueError, match="more labels"):
        client.train_head_on_embeddings("rows", X, ["a"] * 61, fingerprint=extractor.fingerprint)


def test_a_backbone_that_is_another_is_told(client: Client, extractor: Extractor) -> None:
    keep("fixed", extractor.fingerprint)
    with pytest.raises(BackboneChanged, match=extractor.fingerprint):
        client.predict("fixed", [flat(1)], backbone="tiny-dense")
    assert client.predict("fixed", [flat(200)])[0].label == "red"


def test_heads_are_listed_activated_and_deleted(client: Client, extractor: Extractor) -> None:
    keep("many", extractor.fingerprint)
    keep("many", extractor.fingerprint, labels=("a", "b", "c"), activate=False)
    head = next(one for one in client.heads() if one.name == "many")
    assert [str(version) for version in head.versions] == ["many@1", "many@2"]
    assert head.aliases == {"production": 1}
    assert client.head("many").labels == COLOURS
    assert client.activate_head("many@2") == "many@1"
    assert client.predict("many", [flat(200)])[0].label == "a"
    assert client.activate_head("many@1") == "many@2"
    assert client.activate_head("many@2", "canary") == ""
    with pytest.raises(HeadInUse):
        client.delete_head("many@1")
    client.delete_head("many")
    with pytest.raises(HeadNotFound):
        client.head("many")


def test_what_went_wrong_is_raised_as_itself(client: Client, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TooFewExamples, match="1 class"):
        client.train_head("one", [flat(1), flat(2)], ["a", "a"]).result()
    with pytest.raises(InvalidOption, match="soup"):
        client.train_head("one", [flat(1)], ["a"], reject="soup")
    with pytest.raises(HeadNotFound, match="is no head's name"):
        client.train_head("../one", [flat(1)], ["a"])
    with pytest.raises(JobNotFound):
        client.job("gone")
    with pytest.raises(JobNotFound):
        list(client.watch_job("gone"))

    def broken() -> Iterator[bytes]:
        yield from examples(70)[0]
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        client.train_head("one", broken(), ["a"] * 71)
    with pytest.raises(ValueError, match="shorter"):
        client.train_head("one", examples(3)[0], ["a"])
    deadline = time.monotonic() + 10
    while left_over(home):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert all(head.name != "one" for head in client.heads())
    monkeypatch.setattr(jobs, "MAX_OPEN", 0)
    with pytest.raises(JobsFull):
        Client(client.target, backbone=NAME, timeout_s=0.3).train_head("one", [flat(1)], ["a"])
    with pytest.raises(ServiceError):
        Client("127.0.0.1:1", timeout_s=1).heads()


def test_a_full_server_is_asked_again(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "MAX_OPEN", 0)
    monkeypatch.setattr(jobs, "RETRY_MS", 50)

    timer = threading.Timer(0.3, lambda: setattr(jobs, "MAX_OPEN", 16))
    timer.start()
    assert client.train_head("patient", *examples(9)).cancel().state in ("cancelled", "done")
    timer.join()


def test_slow_items_do_not_wait_for_their_message_to_fill(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head_calls, "FILLING_S", 0.1)
    done: list[int] = []

    def slowly() -> Iterator[bytes]:
        for one in examples(9)[0]:
            yield one
            deadline = time.monotonic() + 0.3
            while not done and time.monotonic() < deadline:
                time.sleep(0.02)
        assert done, "nothing was sent before the last item"

    job = client.train_head("bit-by-bit", slowly(), examples(9)[1], progress=lambda n, _: done.append(n) if n else None)
    assert job.cancel().examples == 9


def test_slow_items_are_not_taken_for_a_server_that_is_silent(server: InProcess) -> None:
    contents, labels = examples(12)

    def slowly() -> Iterator[bytes]:
        for one in contents:
            time.sleep(0.2)
            yield one

    async def slowly_too() -> AsyncIterator[bytes]:
        for one in contents:
            await asyncio.sleep(0.2)
            yield one

    with Client(server.address, backbone=NAME, timeout_s=1.8) as client:
        assert client.train_head("unhurried", slowly(), labels).cancel().examples == 12

    async def main() -> int:
        async with AsyncClient(server.address, backbone=NAME, timeout_s=1.8) as client:
            return (await (await client.train_head("unhurried", slowly_too(), labels)).cancel()).examples

    assert asyncio.run(main()) == 12


def test_a_job_is_watched_from_another_client_and_cancelled(
    client: Client, server: InProcess, extractor: Extractor
) -> None:
    job = client.train_head_on_embeddings("slow", *slow(), fingerprint=extractor.fingerprint)
    hasty = Client(server.address, timeout_s=0.4)  # shorter than a step: it has to look again
    with hasty, Client(server.address) as other:
        watching = hasty.watch_job(job.id)
        while next(watching).state != "training":
            pass
        time.sleep(0.5)
        assert other.cancel_job(job.id).state == "cancelled"
        assert [info.state for info in watching][-1] == "cancelled"
    with pytest.raises(JobCancelled, match="cancelled the job"):
        job.result()


def test_the_asynchronous_client_does_the_same(server: InProcess, extractor: Extractor) -> None:
    async def stream() -> AsyncIterator[bytes]:
        for one in examples(70)[0]:
            yield one

    async def main() -> None:
        async with AsyncClient(server.address, backbone=NAME, timeout_s=30) as client:
            sent: list[int] = []
            job = await client.train_head("twin", stream(), examples(70)[1], progress=lambda n, _: sent.append(n))
            states = [info.state async for info in job]
            assert states[-1] == "done"
            assert (await job.result()).version == "twin@1"
            told = await client.predict("twin", [coloured(i % 3, 500 + i) for i in range(100)] + [b""])
            assert [one.ranking[0].label for one in told[:100]] == [COLOURS[i % 3] for i in range(100)]
            assert isinstance(told[100].error, EmptyItem)
            X = np.eye(3, dtype=np.float32) * 300
            keep("twin-fixed", extractor.fingerprint)
            told = await client.predict_embeddings("twin-fixed", X, fingerprint=extractor.fingerprint)
            assert [one.label for one in told] == list(COLOURS)
            assert (await client.head("twin")).number == 1
            assert "twin" in {head.name for head in await client.heads()}
            assert await client.activate_head("twin@1", "old") == ""
            assert (await client.job(job.id)).state == "done"
            assert job.id in {one.id for one in await client.jobs()}
            slow_job = await client.train_head_on_embeddings("slow", *slow(), fingerprint=extractor.fingerprint)
            assert (await slow_job.cancel()).state == "cancelled"
            with pytest.raises(JobCancelled):
                await slow_job.result()
            with pytest.raises(ValueError, match="more items than labels"):
                await client.train_head("twin", examples(80)[0], ["a"] * 79)
            with pytest.raises(InvalidOption):
                await client.train_head("twin", examples(3)[0], ["a"] * 3, reject="soup")
            with pytest.raises(JobNotFound):
                await client.cancel_job("gone")
            await client.delete_head("twin")

    asyncio.run(main())
