"""The streams of `FewShotService`: classifications as they come, pools to choose from, tasks as files."""

import queue
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from classifiers.tasks import TaskStore
from extractor import Extractor
from headwater.v1 import fewshot_pb2 as pb
from headwater.v1.fewshot_pb2_grpc import FewShotServiceStub
from tests.fewshot import (
    IMAGE,
    WAIT_S,
    add_pictures,
    ask,
    classes,
    connected,
    facts,
    first_labels,
    items,
    packed,
    picture,
    teach,
)
from tests.inprocess import in_this_process


@pytest.fixture(scope="module")
def images(tiny_image: Path) -> Extractor:
    return Extractor.load(tiny_image, cache="memory")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("streams-home")
        patch.setenv("HEADWATER_HOME", str(folder))
        yield folder


@pytest.fixture(scope="module")
def stub(images: Extractor, home: Path) -> Iterator[FewShotServiceStub]:
    with in_this_process({IMAGE: images}) as server, connected(server.address) as one:
        yield one


def staged(home: Path) -> list[Path]:
    return list((home / "tasks").glob(".new-*"))


def ended(call: Any) -> tuple[str, str, str]:
    """Return code, reason and message of a stream that fails."""
    with pytest.raises(grpc.RpcError) as caught:
        list(call) if hasattr(call, "__next__") else call
    error = caught.value
    return error.code().name, dict(error.trailing_metadata()).get("headwater-reason", ""), error.details()


class Talk:
    """A stream to which messages are sent one by one."""

    def __init__(self, stub: Any) -> None:
        self._messages: queue.Queue[pb.ClassifyStreamRequest | None] = queue.Queue()
        self.answers = stub.ClassifyStream(iter(self._messages.get, None), timeout=WAIT_S)

    def send(self, *contents: bytes, first: int = 0, **rest: Any) -> None:
        ids = range(first, first + len(contents))
        self._messages.put(pb.ClassifyStreamRequest(ids=ids, items=items(*contents), **rest))

    def end(self) -> None:
        self._messages.put(None)


def test_a_stream_is_answered_and_hears_of_changes(stub: Any) -> None:
    teach(stub, "stream", "red", "blue")
    talk = Talk(stub)
    talk.send(picture("green", 3), task="stream", options=pb.ClassifyOptions(top=3, neighbours=1))
    before = next(talk.answers)
    assert (list(before.ids), before.answer.version) == ([0], 2)
    assert len(before.classifications[0].ranking) == 2
    assert len(before.classifications[0].neighbours) == 1
    version = add_pictures(stub, "stream", "green").version
    talk.send(picture("green", 4), b"no image", first=7)
    talk.end()
    found = {
        one: (answer, what)
        for answer in talk.answers
        for one, what in zip(answer.ids, answer.classifications, strict=True)
    }
    assert found.keys() == {7, 8}
    answer, green = found[7]
    assert (answer.answer.version, green.ranking[0].label) == (version, "green")
    assert found[8][1].error.reason == "UndecodableItem"


def test_a_long_stream_is_answered_whole(stub: Any) -> None:
    teach(stub, "long", "red", "blue")
    contents = [picture("red", i % 20) if i % 3 else picture("blue", i % 20) for i in range(500)]
    messages = [
        pb.ClassifyStreamRequest(task="long" if not i else "", ids=range(i, i + 50), items=items(*contents[i : i + 50]))
        for i in range(0, 500, 50)
    ]
    found: dict[int, str] = {}
    for answer in stub.ClassifyStream(iter(messages), timeout=WAIT_S):
        found |= dict(zip(answer.ids, first_labels(answer), strict=True))
    assert [found[i] for i in range(500)] == ["red" if i % 3 else "blue" for i in range(500)]


def test_a_stream_ends_with_its_task(stub: Any) -> None:
    teach(stub, "ending", "red", "blue")
    talk = Talk(stub)
    talk.send(picture("red"), task="ending")
    next(talk.answers)
    stub.DeleteTask(pb.DeleteTaskRequest(task="ending"))
    talk.send(picture("blue"), first=1)
    assert ended(talk.answers)[:2] == ("NOT_FOUND", "TaskNotFound")


def test_a_stream_is_of_one_task(stub: Any) -> None:
    teach(stub, "first", "red", "blue")
    for rest, reason in (
        ({"task": "second"}, "RequestInvalid"),
        ({"options": pb.ClassifyOptions(top=2)}, "RequestInvalid"),
        ({"ids": [1, 2]}, "RequestInvalid"),
    ):
        messages = [pb.ClassifyStreamRequest(task="first"), pb.ClassifyStreamRequest(**rest)]
        assert ended(stub.ClassifyStream(iter(messages), timeout=WAIT_S))[1] == reason
    assert ended(stub.ClassifyStream(iter([pb.ClassifyStreamRequest(task="none")])))[1] == "TaskNotFound"
    assert list(stub.ClassifyStream(iter([]), timeout=WAIT_S)) == []


def suggest(stub: Any, *messages: pb.SuggestRequest) -> pb.SuggestResponse:
    return stub.Suggest(iter(messages), timeout=WAIT_S)


def test_suggestions_cover_and_then_are_uncertain(stub: Any, images: Extractor) -> None:
    stub.CreateTask(pb.CreateTaskRequest(name="unlabelled", backbone=IMAGE))
    pool = [picture(colour, i) for colour in ("red", "green", "blue") for i in range(5)]
    first = pb.SuggestRequest(task="unlabelled", n=3, items=items(*pool[:7], b"no image"))
    found = suggest(stub, first, pb.SuggestRequest(items=items(*pool[7:])))
    positions = [one.position - (one.position > 7) for one in found.suggestions]
    assert sorted(position // 5 for position in positions) == [0, 1, 2]  # one of each colour
    assert (found.version, found.failed_items, found.failures[0].position) == (1, 1, 7)
    assert found.reason
    add_pictures(stub, "unlabelled", "red", "blue", "red", "blue")
    X = packed([[220, 11, 10], [110, 12, 110], [10, 10, 221]])
    sent = pb.SuggestRequest(task="unlabelled", n=1, embeddings=X, fingerprint=images.fingerprint)
    found = suggest(stub, sent)
    assert [one.position for one in found.suggestions] == [1]
    assert found.suggestions[0].label in ("red", "blue")
    assert 0 <= found.suggestions[0].uncertainty <= 1
    assert not suggest(stub, pb.SuggestRequest(task="unlabelled")).suggestions
    nan = packed([[1, 2, np.nan]])
    for request, reason in (
        (pb.SuggestRequest(task="none"), "TaskNotFound"),
        (pb.SuggestRequest(task="unlabelled", n=1001), "RequestInvalid"),
        (pb.SuggestRequest(task="unlabelled", embeddings=X), "RequestInvalid"),
        (pb.SuggestRequest(task="unlabelled", embeddings=X, fingerprint="f"), "EmbeddingMismatch"),
        (pb.SuggestRequest(task="unlabelled", embeddings=nan, fingerprint=images.fingerprint), "NotFinite"),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            suggest(stub, request)
        assert dict(caught.value.trailing_metadata())["headwater-reason"] == reason


def exported(stub: Any, task: str) -> bytes:
    return b"".join(part.data for part in stub.ExportTask(pb.ExportTaskRequest(task=task), timeout=WAIT_S))


def import_task(stub: Any, data: bytes, name: str = "", part: int = 5000) -> pb.Task:
    messages = [pb.ImportTaskRequest(order=pb.ImportOrder(name=name))]
    messages += [pb.ImportTaskRequest(data=data[i : i + part]) for i in range(0, len(data), part)]
    return stub.ImportTask(iter(messages), timeout=WAIT_S)


def test_a_task_travels_as_a_file(stub: Any, home: Path) -> None:
    teach(stub, "traveller", *["red", "blue"] * 3, keep_items=True, settings=pb.TaskSettings(method="knn"))
    data = exported(stub, "traveller")
    made = import_task(stub, data, "arrived")
    assert (made.name, made.n_examples, made.keep_items, made.settings.method) == ("arrived", 6, True, "knn")
    assert classes(stub, "arrived") == classes(stub, "traveller")
    shown = ask(stub, "arrived", picture("red"), with_items=True).classifications[0].neighbours[0]
    assert shown.item == picture("red")
    for wrong, name, reason in (
        (data, "", "TaskExists"),
        (data, "no/name", "InvalidOption"),
        (data[: len(data) // 2], "half", "TaskInvalid"),
        (b"rubbish" * 1000, "rubbish", "TaskInvalid"),
        (b"", "empty", "TaskInvalid"),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            import_task(stub, wrong, name)
        assert dict(caught.value.trailing_metadata())["headwater-reason"] == reason
        assert "/" not in caught.value.details().replace("no/name", ""), "a path of the server"
    for messages in ([], [pb.ImportTaskRequest(data=b"x")], [pb.ImportTaskRequest(order=pb.ImportOrder(name="x"))] * 2):
        with pytest.raises(grpc.RpcError) as caught:
            stub.ImportTask(iter(messages), timeout=WAIT_S)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert not staged(home)
    assert {one.name for one in stub.ListTasks(pb.ListTasksRequest()).tasks} >= {"arrived", "traveller"}


def test_an_import_that_its_sender_leaves_leaves_nothing(stub: Any, home: Path) -> None:
    teach(stub, "left", "red")
    data = exported(stub, "left")

    def half() -> Iterator[pb.ImportTaskRequest]:
        yield pb.ImportTaskRequest(order=pb.ImportOrder(name="half-sent"))
        yield pb.ImportTaskRequest(data=data)
        time.sleep(0.2)
        call.cancel()

    call = stub.ImportTask.future(half(), timeout=WAIT_S)
    with pytest.raises(grpc.FutureCancelledError):
        call.result()
    time.sleep(0.3)  # for the server to hear of it
    assert not staged(home)
    assert "half-sent" not in {one.name for one in stub.ListTasks(pb.ListTasksRequest()).tasks}


def test_a_file_of_other_embeddings_than_the_backbone_makes_is_refused(stub: Any, tmp_path: Path) -> None:
    with TaskStore.open(tmp_path / "tasks") as store:
        store.create("other", backbone=IMAGE, fingerprint="f" * 32, dim=3, labels=["a"]).export(tmp_path / "file")
        store.create("free", backbone="not-served", fingerprint="f" * 32, dim=3, labels=["a"]).export(tmp_path / "ok")
    with pytest.raises(grpc.RpcError) as caught:
        import_task(stub, (tmp_path / "file").read_bytes())
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert "f" * 32 in caught.value.details()
    import_task(stub, (tmp_path / "ok").read_bytes())
    assert facts(stub, "free").backbone == "not-served"
    X = packed([[1, 2, 3], [3, 2, 1]])
    vectors = {"embeddings": X, "fingerprint": "f" * 32}
    examples = pb.NewExamples(labels=["a", "b"], **vectors)
    stub.AddExamples(pb.AddExamplesRequest(task="free", examples=examples))
    assert first_labels(stub.Classify(pb.ClassifyRequest(task="free", **vectors))) == ["a", "b"]
    with pytest.raises(grpc.RpcError) as caught:
        ask(stub, "free", picture("red"))
    assert "headwater admin load not-served" in caught.value.details()
    assert exported(stub, "free")
