"""`FewShotService` over a real port: tasks, examples, answers, refusals, and what lasts."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from extractor import Extractor
from headwater.v1 import fewshot_pb2 as pb
from headwater.v1.fewshot_pb2_grpc import FewShotServiceStub
from tests.fewshot import (
    IMAGE,
    TEXT,
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
    refused,
    teach,
)
from tests.inprocess import InProcess, in_this_process


@pytest.fixture(scope="module")
def images(tiny_image: Path) -> Extractor:
    return Extractor.load(tiny_image, cache="memory")


@pytest.fixture(scope="module")
def texts(tiny_text: Path) -> Extractor:
    return Extractor.load(tiny_text, cache="memory")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("tasks-home")
        patch.setenv("HEADWATER_HOME", str(folder))
        yield folder


@pytest.fixture(scope="module")
def server(images: Extractor, texts: Extractor, home: Path) -> Iterator[InProcess]:
    with in_this_process({IMAGE: images, TEXT: texts}) as one:
        yield one


@pytest.fixture(scope="module")
def stub(server: InProcess) -> Iterator[FewShotServiceStub]:
    with connected(server.address) as one:
        yield one


def test_a_task_is_taught_and_asked(stub: Any, images: Extractor) -> None:
    made = stub.CreateTask(pb.CreateTaskRequest(name="colours", backbone=IMAGE, labels=["red"]))
    assert (made.version, made.n_classes, made.n_examples, made.dim) == (1, 1, 0, 3)
    assert (made.backbone, made.fingerprint) == (IMAGE, images.fingerprint)
    assert (made.settings.method, made.settings.false_alarm_rate) == ("auto", 0.05)
    assert made.max_examples == 1_000_000
    assert abs(made.created_at.seconds - time.time()) < 60
    assert refused(stub.Classify, pb.ClassifyRequest(task="colours"))[:2] == ("FAILED_PRECONDITION", "TaskEmpty")
    added = add_pictures(stub, "colours", "red", "red", "blue", "blue")
    assert (added.version, added.n_new) == (2, 4)
    assert len({one.id for one in added.examples}) == 4
    response = ask(stub, "colours", picture("blue", 9), b"no image", picture("red", 8), b"", top=2)
    assert (response.answer.version, response.answer.fingerprint) == (2, images.fingerprint)
    assert response.answer.method
    assert response.answer.reason
    assert first_labels(response) == ["blue", "", "red", ""]
    blue, broken, _, empty = response.classifications
    assert [one.label for one in blue.ranking] == ["blue", "red"]
    assert sum(one.probability for one in blue.ranking) == pytest.approx(1)
    assert [one.label for one in blue.neighbours] == ["blue", "blue", "red"]
    assert blue.neighbours[0].similarity == pytest.approx(1, abs=1e-3)
    assert {one.id for one in blue.neighbours} <= {one.id for one in added.examples}
    assert (broken.error.reason, empty.error.reason) == ("UndecodableItem", "EmptyItem")
    assert not broken.neighbours
    assert response.times.queue_ms > 0
    assert not ask(stub, "colours").classifications
    assert not ask(stub, "colours", picture("red"), neighbours=0).classifications[0].neighbours


def test_a_new_class_is_known_to_the_next_answer(stub: Any) -> None:
    teach(stub, "growing", "red", "blue")
    for i in range(5):
        assert first_labels(ask(stub, "growing", picture("green"))) != ["green"] or i
        added = add_pictures(stub, "growing", "green", first=i)
        response = ask(stub, "growing", picture("green", 20))
        assert response.answer.version == added.version
        assert first_labels(response) == ["green"]
        stub.RemoveClass(pb.RemoveClassRequest(task="growing", label="green"))


def test_items_that_cannot_be_embedded_leave_the_others(stub: Any) -> None:
    stub.CreateTask(pb.CreateTaskRequest(name="partly", backbone=IMAGE))
    examples = pb.NewExamples(
        items=items(picture("red"), b"x", picture("blue")), labels=["red", "blue", "blue"], ids=["a", "b", "c"]
    )
    added = stub.AddExamples(pb.AddExamplesRequest(task="partly", examples=examples))
    assert [one.id for one in added.examples] == ["a", "", "c"]
    assert added.examples[1].error.reason == "UndecodableItem"
    assert (added.n_new, added.version, classes(stub, "partly")) == (2, 2, {"red": 1, "blue": 1})
    again = stub.AddExamples(pb.AddExamplesRequest(task="partly", examples=examples))
    assert (again.n_new, again.version) == (0, 2)
    assert again.examples[0].cached
    nothing = pb.AddExamplesRequest(task="partly", examples=pb.NewExamples(items=items(b"x"), labels=["red"]))
    assert stub.AddExamples(nothing).version == 2


def test_embeddings_need_no_backbone_but_their_fingerprint(stub: Any, images: Extractor) -> None:
    teach(stub, "vectors", "red", "blue")
    fingerprint = images.fingerprint
    X = packed([[1, 2, 300], [np.nan, 0, 0], [300, 2, 1], [0, np.inf, 0]])
    request = pb.ClassifyRequest(task="vectors", embeddings=X, fingerprint=fingerprint)
    response = stub.Classify(request)
    assert first_labels(response) == ["blue", "", "red", ""]
    assert response.classifications[1].error.reason == "UndecodableItem"
    wrong = pb.ClassifyRequest(task="vectors", embeddings=X, fingerprint="e" * 32)
    code, reason, message = refused(stub.Classify, wrong)
    assert (code, reason) == ("FAILED_PRECONDITION", "EmbeddingMismatch")
    assert fingerprint in message
    assert "e" * 32 in message
    for bad in (
        pb.ClassifyRequest(task="vectors", embeddings=X),
        pb.ClassifyRequest(task="vectors", embeddings=X[:-4], fingerprint=fingerprint),
        pb.ClassifyRequest(task="vectors", embeddings=X, fingerprint=fingerprint, items=items(b"x")),
        pb.ClassifyRequest(task="vectors", options=pb.ClassifyOptions(top=101)),
        pb.ClassifyRequest(task="vectors", options=pb.ClassifyOptions(neighbours=101)),
    ):
        assert refused(stub.Classify, bad)[:2] == ("INVALID_ARGUMENT", "RequestInvalid")
    for rate in (1.0, -0.1, float("nan")):
        bad = pb.ClassifyRequest(task="vectors", options=pb.ClassifyOptions(false_alarm_rate=rate))
        assert refused(stub.Classify, bad)[:2] == ("INVALID_ARGUMENT", "InvalidOption")
    examples = pb.NewExamples(embeddings=packed([[0, 200, 1]]), fingerprint=fingerprint, labels=["green"])
    assert stub.AddExamples(pb.AddExamplesRequest(task="vectors", examples=examples)).n_new == 1
    assert first_labels(ask(stub, "vectors", picture("green"))) == ["green"]


def test_what_is_unknown_is_said_and_may_be_asked_otherwise(stub: Any) -> None:
    teach(stub, "strict", *["red", "blue"] * 4)
    strange = picture("green")
    response = ask(stub, "strict", strange, picture("red", 1))
    assert [one.unknown for one in response.classifications] == [True, False]
    assert response.classifications[0].score < response.answer.threshold <= response.classifications[1].score
    assert response.classifications[0].ranking
    lenient = ask(stub, "strict", strange, false_alarm_rate=0.0)
    assert not lenient.answer.HasField("threshold")
    assert not lenient.classifications[0].unknown
    stub.UpdateTask(pb.UpdateTaskRequest(task="strict", settings=pb.TaskSettings(false_alarm_rate=0)))
    assert not ask(stub, "strict", strange).classifications[0].unknown
    assert ask(stub, "strict", strange, false_alarm_rate=0.05).classifications[0].unknown


def test_changes_are_made_told_and_undone(stub: Any) -> None:
    added = teach(stub, "changing", "red", "red", "blue", "green")
    ids = [one.id for one in added.examples]
    assert stub.RelabelExamples(pb.RelabelExamplesRequest(task="changing", labels={ids[1]: "blue"})).version == 3
    assert stub.RenameClass(pb.RenameClassRequest(task="changing", label="green", to="lawn")).version == 4
    assert stub.MergeClasses(pb.MergeClassesRequest(task="changing", labels=["lawn"], into="blue")).version == 5
    assert classes(stub, "changing") == {"red": 1, "blue": 3}
    assert stub.RemoveExamples(pb.RemoveExamplesRequest(task="changing", ids=ids[2:3])).version == 6
    assert stub.RemoveClass(pb.RemoveClassRequest(task="changing", label="red")).version == 7
    assert classes(stub, "changing") == {"blue": 2}
    assert stub.UndoChanges(pb.UndoChangesRequest(task="changing")).version == 8
    assert stub.UndoChanges(pb.UndoChangesRequest(task="changing", n=3)).version == 9
    assert classes(stub, "changing") == {"red": 1, "blue": 2, "green": 1}
    told = stub.ListChanges(pb.ListChangesRequest(task="changing")).changes
    assert [one.version for one in told] == list(range(9, 0, -1))
    assert (told[0].kind, told[0].can_be_undone, told[1].kind) == ("undo", False, "undo")
    assert json.loads(told[0].detail) == {"versions": [6, 5, 4]}
    assert (told[2].kind, told[2].undone_by) == ("remove class", 8)
    assert told[-2].can_be_undone
    assert [one.version for one in stub.ListChanges(pb.ListChangesRequest(task="changing", n=2)).changes] == [9, 8]


def test_two_teachers_hear_of_each_other(stub: Any) -> None:
    teach(stub, "shared", "red")
    wanted = {"if_version": 1}
    for call, request in (
        (
            stub.AddExamples,
            pb.AddExamplesRequest(
                task="shared", examples=pb.NewExamples(items=items(picture("red", 3)), labels=["x"]), **wanted
            ),
        ),
        (stub.RemoveClass, pb.RemoveClassRequest(task="shared", label="red", **wanted)),
        (stub.UpdateTask, pb.UpdateTaskRequest(task="shared", settings=pb.TaskSettings(method="knn"), **wanted)),
        (stub.DeleteTask, pb.DeleteTaskRequest(task="shared", **wanted)),
        (stub.UndoChanges, pb.UndoChangesRequest(task="shared", if_version=0)),
    ):
        code, reason, message = refused(call, request)
        assert (code, reason) == ("ABORTED", "VersionConflict")
        assert "at version 2" in message
    assert facts(stub, "shared").version == 2
    assert (
        stub.UpdateTask(
            pb.UpdateTaskRequest(task="shared", settings=pb.TaskSettings(method="knn"), if_version=2)
        ).version
        == 3
    )


def test_an_update_changes_what_it_names(stub: Any) -> None:
    settings = pb.TaskSettings(method="class-mean", false_alarm_rate=0.2, texts={"a": "an a", "b": "a b"})
    stub.CreateTask(pb.CreateTaskRequest(name="set", backbone=TEXT, settings=settings))
    update = pb.TaskSettings(zero_shot=True, texts={"a": "", "c": "a c"})
    told = stub.UpdateTask(pb.UpdateTaskRequest(task="set", settings=update)).settings
    assert (told.method, told.false_alarm_rate, told.zero_shot) == ("class-mean", 0.2, True)
    assert dict(told.texts) == {"b": "a b", "c": "a c"}
    wrong = pb.UpdateTaskRequest(task="set", settings=pb.TaskSettings(method="magic"))
    assert refused(stub.UpdateTask, wrong)[:2] == ("INVALID_ARGUMENT", "InvalidOption")


def test_pages_go_on_where_the_last_ended(stub: Any) -> None:
    stub.CreateTask(pb.CreateTaskRequest(name="paged", backbone=IMAGE, keep_items=True))
    labels = ["red", "blue"] * 5
    add_pictures(stub, "paged", *labels, ids=list("abcdefghij"), notes=["first"] + [""] * 9)

    def page(**rest: Any) -> pb.ListExamplesResponse:
        return stub.ListExamples(pb.ListExamplesRequest(task="paged", **rest))

    first = page(page_size=4)
    assert ("".join(one.id for one in first.examples), first.examples[0].note) == ("abcd", "first")
    assert not first.examples[0].item
    stub.RemoveExamples(pb.RemoveExamplesRequest(task="paged", ids=["d", "f"]))
    second = page(page_size=4, page_token=first.next_page_token, with_items=True, with_embeddings=True)
    assert "".join(one.id for one in second.examples) == "eghi"
    assert second.examples[0].item == picture("red", 4)
    assert np.frombuffer(second.embeddings, "<f4").reshape(4, 3)[0].tolist() == [216, 6, 6]
    last = page(page_size=4, page_token=second.next_page_token)
    assert ("".join(one.id for one in last.examples), last.next_page_token) == ("j", "")
    assert "".join(one.id for one in page(label="blue").examples) == "bhj"
    assert refused(stub.ListExamples, pb.ListExamplesRequest(task="paged", page_token="x"))[1] == "RequestInvalid"
    assert refused(stub.ListExamples, pb.ListExamplesRequest(task="paged", page_size=1025))[1] == "RequestInvalid"
    assert refused(stub.ListExamples, pb.ListExamplesRequest(task="paged", label="no"))[1] == "InvalidLabels"
    shown = ask(stub, "paged", picture("red"), with_items=True, neighbours=1).classifications[0].neighbours[0]
    assert (shown.id, shown.note, shown.item) == ("a", "first", picture("red"))


def test_tasks_are_listed_and_deleted(stub: Any, home: Path) -> None:
    for name in ("one", "two"):
        teach(stub, f"listed-{name}", "red", "blue")
    (home / "tasks" / "listed-broken.sqlite").write_bytes(b"no database" * 100)
    listed = {one.name: one for one in stub.ListTasks(pb.ListTasksRequest()).tasks}
    assert list(listed) == sorted(listed)
    one = listed["listed-one"]
    assert (one.n_examples, one.n_classes, one.version, len(one.classes)) == (2, 2, 2, 0)
    assert listed["listed-broken"].error.reason == "TaskInvalid"
    assert str(home) not in listed["listed-broken"].error.message
    code, reason, message = refused(stub.GetTask, pb.GetTaskRequest(task="listed-broken"))
    assert (code, reason) == ("FAILED_PRECONDITION", "TaskInvalid")
    assert str(home) not in message
    for name in ("broken", "one"):
        stub.DeleteTask(pb.DeleteTaskRequest(task=f"listed-{name}"))
    assert refused(stub.DeleteTask, pb.DeleteTaskRequest(task="listed-one"))[:2] == ("NOT_FOUND", "TaskNotFound")
    assert refused(stub.Classify, pb.ClassifyRequest(task="listed-one"))[:2] == ("NOT_FOUND", "TaskNotFound")
    assert "listed-one" not in {one.name for one in stub.ListTasks(pb.ListTasksRequest()).tasks}
    teach(stub, "listed-one", "green")  # the same name, and nothing of what was taught before
    assert first_labels(ask(stub, "listed-one", picture("red"))) == ["green"]


def test_names_of_classes_are_knowledge_where_the_backbone_reads(stub: Any) -> None:
    settings = pb.TaskSettings(zero_shot=True, texts={"animal": "cat dog"})
    stub.CreateTask(pb.CreateTaskRequest(name="named", backbone=TEXT, labels=["red", "animal"], settings=settings))
    assert first_labels(ask(stub, "named", b"red", b"dog cat", false_alarm_rate=0)) == ["red", "animal"]
    examples = pb.NewExamples(items=items(b"green"), labels=["green"])
    stub.AddExamples(pb.AddExamplesRequest(task="named", examples=examples))
    assert first_labels(ask(stub, "named", b"green", b"red")) == ["green", "red"]
    wrong = pb.CreateTaskRequest(name="seen", backbone=IMAGE, settings=pb.TaskSettings(zero_shot=True))
    code, reason, message = refused(stub.CreateTask, wrong)
    assert (code, reason) == ("INVALID_ARGUMENT", "InvalidOption")
    assert "image" in message
    stub.CreateTask(pb.CreateTaskRequest(name="seen", backbone=IMAGE))
    update = pb.UpdateTaskRequest(task="seen", settings=pb.TaskSettings(zero_shot=True))
    assert refused(stub.UpdateTask, update)[:2] == ("INVALID_ARGUMENT", "InvalidOption")


def test_examples_may_come_with_the_question(stub: Any, images: Extractor) -> None:
    examples = pb.NewExamples(items=items(picture("red"), picture("blue")), labels=["red", "blue"])
    request = pb.ClassifyWithExamplesRequest(
        backbone=IMAGE, examples=examples, items=items(picture("blue", 5), b"x"), options=pb.ClassifyOptions(top=2)
    )
    response = stub.ClassifyWithExamples(request)
    assert first_labels(response) == ["blue", ""]
    assert (response.answer.version, response.answer.uncalibrated) == (0, True)
    assert [one.label for one in response.classifications[0].neighbours] == ["blue", "red"]
    X = packed([[9, 1, 1], [1, 1, 9]])
    vectors = pb.NewExamples(embeddings=X, fingerprint="f", labels=["a", "b"], ids=["x", "y"])
    request = pb.ClassifyWithExamplesRequest(examples=vectors, embeddings=X, fingerprint="f")
    response = stub.ClassifyWithExamples(request)
    assert first_labels(response) == ["a", "b"]
    assert response.classifications[1].neighbours[0].id == "y"
    settings = pb.TaskSettings(zero_shot=True, texts={"animal": "cat", "colour": "red"})
    request = pb.ClassifyWithExamplesRequest(backbone=TEXT, items=items(b"cat", b"red"), settings=settings)
    assert first_labels(stub.ClassifyWithExamples(request)) == ["animal", "colour"]
    for wrong, reason in (
        (pb.ClassifyWithExamplesRequest(backbone=IMAGE, items=items(b"x")), "TaskEmpty"),
        (pb.ClassifyWithExamplesRequest(), "TaskEmpty"),
        (
            pb.ClassifyWithExamplesRequest(examples=pb.NewExamples(items=items(b"x"), labels=["a"]), backbone=IMAGE),
            "UndecodableItem",
        ),
        (pb.ClassifyWithExamplesRequest(examples=pb.NewExamples(items=items(b"x")), backbone=IMAGE), "RequestInvalid"),
        (pb.ClassifyWithExamplesRequest(examples=vectors, embeddings=X, fingerprint="g"), "EmbeddingMismatch"),
        (pb.ClassifyWithExamplesRequest(examples=vectors, embeddings=X), "RequestInvalid"),
        (pb.ClassifyWithExamplesRequest(examples=vectors, items=items(b"x"), backbone=IMAGE), "BackboneChanged"),
        (pb.ClassifyWithExamplesRequest(examples=vectors, items=items(b"x")), "BackboneNotNamed"),
        (pb.ClassifyWithExamplesRequest(backbone=IMAGE, settings=pb.TaskSettings(zero_shot=True)), "InvalidOption"),
    ):
        assert refused(stub.ClassifyWithExamples, wrong)[1] == reason, wrong


def test_nothing_absurd_breaks_or_changes_anything(stub: Any, images: Extractor) -> None:
    teach(stub, "absurd", "red", "blue")
    fingerprint = images.fingerprint

    def add(**examples: Any) -> pb.AddExamplesRequest:
        return pb.AddExamplesRequest(task="absurd", examples=pb.NewExamples(**examples))

    one = {"embeddings": packed([[1, 2, 3]]), "fingerprint": fingerprint}
    image = items(picture("green"))
    for request, code, reason in (
        (add(items=image, labels=["x" * (10 << 20)]), "FAILED_PRECONDITION", "LimitExceeded"),
        (add(items=image, labels=[""]), "FAILED_PRECONDITION", "LimitExceeded"),
        (add(items=image, labels=["a\0"]), "INVALID_ARGUMENT", "InvalidOption"),
        (add(items=image, labels=["a", "b"]), "INVALID_ARGUMENT", "RequestInvalid"),
        (add(items=image), "INVALID_ARGUMENT", "RequestInvalid"),
        (add(items=image, labels=["a"], ids=["x", "y"]), "INVALID_ARGUMENT", "RequestInvalid"),
        (add(items=image, labels=["a"], ids=["i" * 201]), "FAILED_PRECONDITION", "LimitExceeded"),
        (add(items=image, labels=["a"], notes=["n" * 4001]), "FAILED_PRECONDITION", "LimitExceeded"),
        (add(items=image * 2, labels=["a", "b"], ids=["x", "x"]), "ALREADY_EXISTS", "ExampleConflict"),
        (add(items=image, labels=["a"], **one), "INVALID_ARGUMENT", "RequestInvalid"),
        (
            add(labels=["a"], embeddings=packed([[np.nan, 1, 1]]), fingerprint=fingerprint),
            "INVALID_ARGUMENT",
            "NotFinite",
        ),
        (add(labels=["a"], embeddings=packed([1, 2]), fingerprint=fingerprint), "INVALID_ARGUMENT", "RequestInvalid"),
        (add(labels=["a"], embeddings=one["embeddings"], fingerprint="g"), "FAILED_PRECONDITION", "EmbeddingMismatch"),
        (add(labels=["a"], embeddings=one["embeddings"]), "INVALID_ARGUMENT", "RequestInvalid"),
        (add(labels=["a"] * 1025, items=items(b"x") * 1025), "RESOURCE_EXHAUSTED", "RequestTooLarge"),
    ):
        found = refused(stub.AddExamples, request)
        assert found[:2] == (code, reason), (found, str(request)[:200])
        assert len(found[2]) < 2000
    unlabelled = pb.RelabelExamplesRequest(task="absurd", labels={"no such": "red"})
    assert refused(stub.RelabelExamples, unlabelled)[:2] == ("NOT_FOUND", "ExampleNotFound")
    assert refused(stub.RemoveExamples, pb.RemoveExamplesRequest(task="absurd", ids=["?"]))[1] == "ExampleNotFound"
    many = pb.RemoveExamplesRequest(task="absurd", ids=["?"] * 100_001)
    assert refused(stub.RemoveExamples, many)[:2] == ("RESOURCE_EXHAUSTED", "RequestTooLarge")
    relabelled = pb.RelabelExamplesRequest(task="absurd", labels={str(i): "red" for i in range(100_001)})
    assert refused(stub.RelabelExamples, relabelled)[:2] == ("RESOURCE_EXHAUSTED", "RequestTooLarge")
    assert refused(stub.RemoveClass, pb.RemoveClassRequest(task="absurd", label="?"))[1] == "InvalidLabels"
    assert refused(stub.UndoChanges, pb.UndoChangesRequest(task="absurd", n=9))[1] == "InvalidOption"
    assert refused(stub.ListChanges, pb.ListChangesRequest(task="absurd", n=10_001))[1] == "RequestInvalid"
    for name in ("", "../x", "a" * 101, ".lock", "a/b", "\n"):
        assert refused(stub.GetTask, pb.GetTaskRequest(task=name))[:2] == ("INVALID_ARGUMENT", "InvalidOption")
        create = pb.CreateTaskRequest(name=name, backbone=IMAGE)
        assert refused(stub.CreateTask, create)[:2] == ("INVALID_ARGUMENT", "InvalidOption")
    for create, reason in (
        (pb.CreateTaskRequest(name="absurd", backbone=IMAGE), "TaskExists"),
        (pb.CreateTaskRequest(name="b"), "BackboneNotNamed"),
        (pb.CreateTaskRequest(name="b", backbone="none"), "BackboneNotFound"),
        (pb.CreateTaskRequest(name="b", backbone=IMAGE, fingerprint="f"), "BackboneChanged"),
        (pb.CreateTaskRequest(name="b", backbone=IMAGE, labels=["x", "x"]), "InvalidLabels"),
        (pb.CreateTaskRequest(name="b", backbone=IMAGE, settings=pb.TaskSettings(false_alarm_rate=1)), "InvalidOption"),
        (
            pb.CreateTaskRequest(name="b", backbone=IMAGE, settings=pb.TaskSettings(texts={"x": "t" * 5000})),
            "LimitExceeded",
        ),
    ):
        assert refused(stub.CreateTask, create)[1] == reason
    assert facts(stub, "absurd").version == 2
    assert first_labels(ask(stub, "absurd", picture("red"), picture("blue"))) == ["red", "blue"]


def test_ten_thousand_labels(stub: Any, images: Extractor) -> None:
    labels = [f"label {i}" for i in range(10_000)]
    made = stub.CreateTask(pb.CreateTaskRequest(name="wide", backbone=IMAGE, labels=labels))
    assert (made.n_classes, len(made.classes)) == (10_000, 10_000)
    X = np.random.default_rng(0).normal(size=(1000, 3))
    examples = pb.NewExamples(embeddings=packed(X), fingerprint=images.fingerprint, labels=labels[:1000])
    stub.AddExamples(pb.AddExamplesRequest(task="wide", examples=examples))
    request = pb.ClassifyRequest(task="wide", embeddings=packed(X), fingerprint=images.fingerprint)
    assert first_labels(stub.Classify(request, timeout=WAIT_S)) == labels[:1000]
    stub.DeleteTask(pb.DeleteTaskRequest(task="wide"))


def test_an_audit_finds_what_contradicts_its_neighbours(stub: Any) -> None:
    stub.CreateTask(pb.CreateTaskRequest(name="audited", backbone=IMAGE, labels=["empty"]))
    assert not stub.Audit(pb.AuditRequest(task="audited")).HasField("accuracy")
    labels = ["red", "blue"] * 5
    added = add_pictures(stub, "audited", *labels)
    wrong = added.examples[0].id
    stub.RelabelExamples(pb.RelabelExamplesRequest(task="audited", labels={wrong: "blue"}))
    found = stub.Audit(pb.AuditRequest(task="audited", n=1))
    assert (found.version, found.accuracy.n_examples) == (3, 10)
    assert found.accuracy.accuracy == pytest.approx(0.9)
    assert found.accuracy.low < 0.9 < found.accuracy.high
    [doubtful] = found.contradictions
    assert (doubtful.id, doubtful.label, doubtful.suggested) == (wrong, "blue", "red")
    assert (found.small_classes[0].label, found.small_classes[0].n_examples) == ("empty", 0)
    assert found.duplicates[0].similarity > 0.99
    assert refused(stub.Audit, pb.AuditRequest(task="audited", n=1001))[:2] == ("INVALID_ARGUMENT", "RequestInvalid")
