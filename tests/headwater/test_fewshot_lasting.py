"""What lasts of few-shot tasks, who may use them, and what many callers at once get to see."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from classifiers.tasks import TaskStore
from extractor import Extractor
from headwater.admin_client import AdminClient
from headwater.keys import Role, add
from headwater.process import serving
from headwater.server import ServerSettings
from headwater.service.sight import Sight, SightSettings
from headwater.v1 import fewshot_pb2 as pb
from tests.fewshot import (
    IMAGE,
    WAIT_S,
    ask,
    classes,
    connected,
    facts,
    first_labels,
    items,
    packed,
    picture,
    refused,
    teach,
)
from tests.inprocess import in_this_process
from tests.tiny import write_tiny_dense


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEADWATER_HOME", str(tmp_path))
    return tmp_path


@contextmanager
def stub_of(*folders: Path, settings: ServerSettings | None = None, **rest: Any) -> Iterator[Any]:
    extractors = {folder.name: Extractor.load(folder, cache="memory") for folder in folders}
    with in_this_process(extractors, settings, **rest) as server, connected(server.address) as stub:
        yield stub


def test_a_restart_keeps_all(home: Path, tiny_image: Path) -> None:
    with stub_of(tiny_image) as stub:
        teach(stub, "kept", *["red", "blue"] * 3, settings=pb.TaskSettings(false_alarm_rate=0.1))
        before = ask(stub, "kept", picture("red", 9), top=2)
    with stub_of(tiny_image) as stub:
        after = ask(stub, "kept", picture("red", 9), top=2)
        assert facts(stub, "kept").settings.false_alarm_rate == 0.1
        assert after.answer.version == before.answer.version
        assert after.classifications[0].ranking == before.classifications[0].ranking
        assert stub.UndoChanges(pb.UndoChangesRequest(task="kept")).version == 3
        assert not classes(stub, "kept")


def test_a_home_is_one_servers_and_the_other_serves_the_rest(home: Path, tiny_image: Path) -> None:
    with stub_of(tiny_image) as other:
        with stub_of(tiny_image) as first:
            teach(first, "mine", "red", "blue")
            code, reason, message = refused(other.ListTasks, pb.ListTasksRequest())
            assert (code, reason) == ("FAILED_PRECONDITION", "StoreInUse")
            assert str(home) not in message
            X = packed([[1, 0, 0], [0, 0, 1]])
            examples = pb.NewExamples(embeddings=X, fingerprint="f", labels=["a", "b"])
            request = pb.ClassifyWithExamplesRequest(examples=examples, embeddings=X, fingerprint="f")
            assert first_labels(other.ClassifyWithExamples(request)) == ["a", "b"]  # it needs no folder
        assert classes(other, "mine") == {"red": 1, "blue": 1}  # the first server has gone


def test_a_home_that_cannot_be_written_is_said(home: Path, tiny_image: Path) -> None:
    (home / "tasks").write_text("in the way")
    with stub_of(tiny_image) as stub:
        code, reason, message = refused(stub.GetTask, pb.GetTaskRequest(task="x"))
        assert (code, reason) == ("FAILED_PRECONDITION", "TaskUnwritable")
        assert str(home) not in message
        (home / "tasks").unlink()
        teach(stub, "x", "red")


def test_another_backbone_of_the_name_is_refused(home: Path, tiny_image: Path, tiny_text: Path) -> None:
    with TaskStore.open(home / "tasks") as store:
        store.create("old", backbone=IMAGE, fingerprint="e" * 32, dim=3, labels=["a"])
        store.create("away", backbone="gone", fingerprint="e" * 32, dim=3, labels=["a"])
    with stub_of(tiny_image, tiny_text) as stub:
        examples = pb.NewExamples(items=items(picture("red")), labels=["a"])
        for task, reason in (("old", "BackboneChanged"), ("away", "BackboneNotFound")):
            for call, request in (
                (stub.Classify, pb.ClassifyRequest(task=task, items=items(picture("red")))),
                (stub.AddExamples, pb.AddExamplesRequest(task=task, examples=examples)),
            ):
                assert refused(call, request)[1] == reason
            assert stub.RenameClass(pb.RenameClassRequest(task=task, label="a", to="b")).version == 2
            assert list(stub.ExportTask(pb.ExportTaskRequest(task=task)))


def test_a_backbone_that_is_replaced_is_noticed_by_the_next_call(home: Path, tiny_image: Path, tmp_path: Path) -> None:
    other = write_tiny_dense(tmp_path / "other" / IMAGE)
    extractor = Extractor.load(tiny_image, cache="memory")
    X = packed([[220, 10, 10]])
    with (
        in_this_process({IMAGE: extractor}, load=lambda _: Extractor.load(other, cache="off")) as server,
        connected(server.address) as stub,
        AdminClient(server.address) as admin,
    ):
        teach(stub, "before", "red", "blue")
        admin.replace(IMAGE, allow_new_fingerprint=True)
        question = pb.ClassifyRequest(task="before", items=items(picture("red")))
        assert refused(stub.Classify, question)[:2] == ("FAILED_PRECONDITION", "BackboneChanged")
        question = pb.ClassifyRequest(task="before", embeddings=X, fingerprint=extractor.fingerprint)
        assert first_labels(stub.Classify(question)) == ["red"]
        admin.unload(IMAGE)
        code, _, message = refused(stub.Classify, pb.ClassifyRequest(task="before", items=items(picture("red"))))
        assert (code, f"headwater admin load {IMAGE}" in message) == ("NOT_FOUND", True)
        assert first_labels(stub.Classify(question)) == ["red"]


def test_roles(home: Path, tiny_image: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    classify = add(keys, "asker", roles=[Role.CLASSIFY])
    teach_key = add(keys, "teacher", roles=[Role.TEACH])
    with stub_of(tiny_image, settings=ServerSettings(port=0, keys=keys)) as stub:

        def code(call: Any, request: Any, key: str) -> str:
            try:
                call(request, timeout=WAIT_S, metadata=[("authorization", f"Bearer {key}")])
            except grpc.RpcError as error:
                return error.code().name
            return "OK"

        create = pb.CreateTaskRequest(name="roles", backbone=IMAGE)
        assert code(stub.CreateTask, create, classify) == "PERMISSION_DENIED"
        assert code(stub.CreateTask, create, teach_key) == "OK"
        examples = pb.NewExamples(items=items(picture("red")), labels=["red"])
        assert (
            code(stub.AddExamples, pb.AddExamplesRequest(task="roles", examples=examples), classify)
            == "PERMISSION_DENIED"
        )
        assert code(stub.AddExamples, pb.AddExamplesRequest(task="roles", examples=examples), teach_key) == "OK"
        question = pb.ClassifyRequest(task="roles", items=items(picture("red")))
        assert code(stub.Classify, question, teach_key) == "PERMISSION_DENIED"
        assert code(stub.Classify, question, classify) == "OK"
        assert code(stub.GetTask, pb.GetTaskRequest(task="roles"), classify) == "OK"
        assert code(stub.DeleteTask, pb.DeleteTaskRequest(task="roles"), classify) == "PERMISSION_DENIED"


def test_what_was_classified_is_counted(home: Path, tiny_image: Path) -> None:
    from urllib.request import urlopen

    with Sight.opened(SightSettings(metrics_port=0)) as sight, stub_of(tiny_image, sight=sight) as stub:
        teach(stub, "counted", *["red", "blue"] * 4)
        ask(stub, "counted", picture("red"), picture("green"), b"x")
        shown = urlopen(sight.metrics_url, timeout=WAIT_S).read().decode()  # our own
    for kind in ("known", "unknown", "error"):
        assert f'headwater_classifications_total{{outcome="{kind}"}} 1.0' in shown
    assert 'headwater_requests_total{code="OK",method="Classify"} 1.0' in shown


def test_a_kill_loses_nothing_that_was_answered(home: Path, tiny_image: Path) -> None:
    kill_and_look(tiny_image, 1)


@pytest.mark.stress
def test_twenty_kills_lose_nothing_that_was_answered(home: Path, tiny_image: Path) -> None:
    kill_and_look(tiny_image, 20)


def kill_and_look(backbone: Path, n: int) -> None:
    """Kill a server while it adds and removes, and look at what the next one has."""
    rng = np.random.default_rng(0)
    with stub_of(backbone) as stub:
        fingerprint = stub.CreateTask(pb.CreateTaskRequest(name="killed", backbone=IMAGE)).fingerprint
    there: set[str] = set()
    for turn in range(n):
        with serving(str(backbone), "--cache", "off") as server, connected(server.target) as stub:
            facts(stub, "killed")
            timer = threading.Timer(rng.uniform(0.05, 0.4), server.process.kill)
            timer.start()
            there, doubtful = churn(stub, fingerprint, there, str(turn))
            timer.join()
        with stub_of(backbone) as stub:
            found = ids_of(stub, "killed")
            assert there - doubtful <= found <= there | doubtful
            assert not doubtful or found & doubtful in (set(), doubtful)
            assert facts(stub, "killed").n_examples == len(found)
            there = found


def churn(stub: Any, fingerprint: str, there: set[str], prefix: str) -> tuple[set[str], set[str]]:
    """Add and remove until the server is gone; return what is there, and what no answer came for: whole, or absent."""
    doubtful: set[str] = set()
    try:
        for i in range(10_000):
            doubtful = {f"{prefix}-{i}-{j}" for j in range(5)}
            vectors = packed(np.random.default_rng(i).normal(size=(5, 3)))
            examples = pb.NewExamples(
                embeddings=vectors, fingerprint=fingerprint, labels=["a", "b", "a", "b", "c"], ids=sorted(doubtful)
            )
            stub.AddExamples(pb.AddExamplesRequest(task="killed", examples=examples), timeout=WAIT_S)
            there, doubtful = there | doubtful, {min(doubtful)}
            stub.RemoveExamples(pb.RemoveExamplesRequest(task="killed", ids=sorted(doubtful)), timeout=WAIT_S)
            there, doubtful = there - doubtful, set()
    except grpc.RpcError:
        pass
    return there, doubtful


def ids_of(stub: Any, task: str) -> set[str]:
    found: set[str] = set()
    token = ""
    while True:
        page = stub.ListExamples(pb.ListExamplesRequest(task=task, page_size=1024, page_token=token), timeout=WAIT_S)
        found |= {one.id for one in page.examples}
        token = page.next_page_token
        if not token:
            return found


def test_many_at_once_hear_what_some_version_says(home: Path, tiny_image: Path) -> None:
    mix(tiny_image, n_threads=16, seconds=2.0)


@pytest.mark.stress
def test_many_at_once_for_a_minute(home: Path, tiny_image: Path) -> None:
    mix(tiny_image, n_threads=32, seconds=60.0)


class Noted:
    """What many threads did: the change that made each version, and each answer with the version that it names."""

    def __init__(self, address: str, fingerprint: str) -> None:
        self.address = address
        self.fingerprint = fingerprint
        self.changes: dict[int, tuple[str, Any]] = {}  # None in place of an embedding: it was removed
        self.answers: list[tuple[int, Any, list[str]]] = []
        self.failures: list[BaseException] = []

    def work(self, number: int, until: float) -> None:
        """Add, remove and ask, in a thread."""
        rng = np.random.default_rng(number)
        own: list[str] = []
        try:
            with connected(self.address) as stub:
                while time.monotonic() < until:
                    self.one(stub, rng, own, f"{number}-{len(self.changes)}-{rng.integers(10**9)}")
        except BaseException as error:
            self.failures.append(error)

    def one(self, stub: Any, rng: Any, own: list[str], name: str) -> None:
        """Do one of these."""
        x = rng.normal(size=3).astype("<f4")
        sent = {"embeddings": packed(x), "fingerprint": self.fingerprint}
        kind = rng.integers(10)
        if kind < 2:
            examples = pb.NewExamples(labels=[name[0]], ids=[name], **sent)
            done = stub.AddExamples(pb.AddExamplesRequest(task="mixed", examples=examples), timeout=WAIT_S)
            self.changes[done.version] = (name, x)
            own.append(name)
        elif kind < 3 and own:
            name = own.pop(rng.integers(len(own)))
            done = stub.RemoveExamples(pb.RemoveExamplesRequest(task="mixed", ids=[name]), timeout=WAIT_S)
            self.changes[done.version] = (name, None)
        else:
            told = stub.Classify(pb.ClassifyRequest(task="mixed", **sent), timeout=WAIT_S)
            self.answers.append((told.answer.version, x, [one.id for one in told.classifications[0].neighbours]))

    def check(self, held: dict[str, Any], first: int) -> None:
        """Tell all versions, from the first on that held these, and what each answer should have been."""
        assert not self.failures, self.failures[:3]
        assert sorted(self.changes) == list(range(first + 1, first + 1 + len(self.changes)))
        of_version: dict[int, list[tuple[Any, list[str]]]] = {}
        for version, x, found in self.answers:
            of_version.setdefault(version, []).append((x, found))
        assert len(of_version) > 5
        for version in range(first, first + 1 + len(self.changes)):
            name, x = self.changes.get(version, ("", None))
            if x is not None:
                held[name] = x
            else:
                held.pop(name, None)
            for query, found in of_version.pop(version, []):
                check_nearest(held, query, found)
        assert not of_version, "versions that never were"


def check_nearest(held: dict[str, Any], query: Any, found: list[str]) -> None:
    names = list(held)
    X = np.array([held[name] for name in names], np.float64)
    cosines = X @ query / np.linalg.norm(X, axis=1) / np.linalg.norm(query)
    assert len(found) == min(3, len(names))
    own = [cosines[names.index(one)] for one in found]
    assert np.allclose(own, np.sort(cosines)[::-1][: len(found)], atol=1e-6)


def mix(backbone: Path, *, n_threads: int, seconds: float) -> None:
    """Add, remove and ask from many threads; each answer's neighbours are those of the version that it names."""
    extractor = Extractor.load(backbone)
    held = {"a": np.array([1, 0, 0], np.float32), "b": np.array([0, 1, 0], np.float32)}
    with in_this_process({IMAGE: extractor}) as server, connected(server.address) as stub:
        stub.CreateTask(pb.CreateTaskRequest(name="mixed", backbone=IMAGE))
        sent = {"embeddings": packed(list(held.values())), "fingerprint": extractor.fingerprint}
        examples = pb.NewExamples(labels=["a", "b"], ids=list(held), **sent)
        first = stub.AddExamples(pb.AddExamplesRequest(task="mixed", examples=examples)).version
        noted, until = Noted(server.address, extractor.fingerprint), time.monotonic() + seconds
        threads = [threading.Thread(target=noted.work, args=(i, until)) for i in range(n_threads)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    noted.check(held, first)


def test_a_server_without_the_libraries_says_what_to_install(
    home: Path, tiny_image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from headwater.service import tasks

    monkeypatch.setitem(tasks.NEEDED, "no_such_module", "no-such-package")
    with stub_of(tiny_image) as stub:
        code, reason, message = refused(stub.ListTasks, pb.ListTasksRequest())
    assert (code, reason) == ("FAILED_PRECONDITION", "RuntimeMissing")
    assert "no-such-package" in message
    assert "pip install 'headwater[classifiers]'" in message
