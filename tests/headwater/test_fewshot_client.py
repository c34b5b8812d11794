"""The client and few-shot tasks, over a real port: what a user writes."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from classifiers.errors import (
    EmbeddingMismatch,
    ExampleConflict,
    ExampleNotFound,
    InvalidLabels,
    InvalidOption,
    TaskEmpty,
    TaskExists,
    TaskInvalid,
    TaskNotFound,
    VersionConflict,
)
from extractor import Extractor
from extractor.errors import BackboneChanged, BackboneNotFound, EmptyItem, UndecodableItem, UnreadableItem
from headwater import Client
from headwater.errors import ClientClosed
from headwater.fewshot_client import FewShotTask
from headwater.server import ServerSettings
from tests.heads import COLOURS, coloured, examples
from tests.inprocess import InProcess, in_this_process
from tests.lossy import lossy
from tests.tiny import TABLE

NAME = "tiny-image"


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("fewshot-home")
        patch.setenv("HEADWATER_HOME", str(folder))
        yield folder


@pytest.fixture(scope="module")
def extractor(tiny_image: Path) -> Extractor:
    return Extractor.load(tiny_image)


@pytest.fixture(scope="module")
def server(extractor: Extractor, tiny_text: Path) -> Iterator[InProcess]:
    with in_this_process({NAME: extractor, "tiny-text": Extractor.load(tiny_text)}, ServerSettings(port=0)) as one:
        yield one


@pytest.fixture
def client(server: InProcess) -> Iterator[Client]:
    with Client(server.address, backbone=NAME, timeout_s=30) as one:
        yield one
        for task in one.tasks():
            one.delete_task(task.name)


@pytest.fixture
def task(client: Client) -> FewShotTask:
    made = client.create_task("colours", keep_items=True)
    made.add(*examples(15), ids=[f"e{i}" for i in range(15)], notes=[f"note {i}" if i % 2 else "" for i in range(15)])
    return made


def test_a_task_is_made_described_and_deleted(client: Client, extractor: Extractor) -> None:
    made = client.create_task("birds", labels=["wren", "robin"], method="class-mean", false_alarm_rate=0.1)
    assert (made.name, made.backbone, made.fingerprint) == ("birds", NAME, extractor.fingerprint)
    info = made.info()
    assert (info.version, info.n_examples, dict(info.classes)) == (1, 0, {"robin": 0, "wren": 0})
    assert (info.settings.method, info.settings.false_alarm_rate, info.settings.zero_shot) == ("class-mean", 0.1, False)
    assert info.dim == 3
    assert info.created_at is not None
    assert client.task("birds").info() == info
    (listed,) = client.tasks()
    assert (listed.name, listed.n_classes, listed.error) == ("birds", 2, None)
    changed = made.update(method="knn", if_version=1)
    assert (changed.version, changed.settings.method, changed.settings.false_alarm_rate) == (2, "knn", 0.1)
    with pytest.raises(TaskExists):
        client.create_task("birds")
    with pytest.raises(VersionConflict):
        made.delete(if_version=1)
    made.delete()
    with pytest.raises(TaskNotFound, match="birds"):
        client.task("birds")
    with pytest.raises(TaskNotFound):
        made.add([coloured(0, 0)], ["red"])


def test_what_cannot_be_is_told_before_it_travels(client: Client) -> None:
    for name, wrong in (("../birds", {}), ("birds", {"method": "soup"}), ("birds", {"false_alarm_rate": 2.0})):
        with pytest.raises(InvalidOption):
            client.create_task(name, **wrong)
    with pytest.raises(InvalidLabels, match="is a str"):
        client.create_task("birds", labels="wren")
    with pytest.raises(BackboneNotFound):
        client.create_task("birds", backbone="gone")
    with pytest.raises(BackboneChanged):
        client.create_task("birds", fingerprint="0" * 32)
    made = client.create_task("birds")
    with pytest.raises(InvalidLabels, match="2 items, 1 labels"):
        made.add([b"x", b"y"], ["wren"])
    with pytest.raises(InvalidLabels, match="more items"):
        made.add((item for item in [b"x", b"y"]), ["wren"])
    with pytest.raises(InvalidLabels, match="more labels"):
        made.add((item for item in [b"x"]), ["wren", "robin"])
    with pytest.raises(InvalidLabels, match="no text"):
        made.add([b"x"], ["\ud800"])
    with pytest.raises(InvalidLabels, match="3 is no text"):
        made.add([b"x"], [3])  # type: ignore[list-item]
    with pytest.raises(InvalidOption, match="empty"):
        made.add([b"x"], ["wren"], ids=[""])
    with pytest.raises(InvalidOption, match="the id of example 0, 7,"):
        made.add([b"x"], ["wren"], ids=[7])  # type: ignore[list-item]
    with pytest.raises(InvalidOption, match="the note of example 0"):
        made.add([b"x"], ["wren"], notes=["\ud800"])
    with pytest.raises(InvalidOption, match="at least 1"):
        made.undo(0)
    with pytest.raises(TypeError):
        made.add(b"x", ["wren"])  # type: ignore[arg-type]
    assert made.info().version == 1
    assert made.add([], []).version == 1


def test_teach_then_ask(task: FewShotTask, tmp_path: Path) -> None:
    gone = tmp_path / "gone.png"
    told = task.classify([*(coloured(i % 3, 100 + i) for i in range(6)), b"", gone], top=3, neighbours=2)
    assert [one.ranking[0].label for one in told[:6]] == [*COLOURS, *COLOURS]
    assert all(one.label in (None, one.ranking[0].label) and len(one.ranking) == 3 for one in told[:6])
    assert all(len(one.neighbours) == 2 and one.neighbours[0].id.startswith("e") for one in told[:6])
    assert isinstance(told[6].error, EmptyItem)
    assert isinstance(told[7].error, UnreadableItem)
    assert told[0].answer.version == task.info().version == 2
    assert told[0].answer.method
    assert told[0].answer.reason
    assert told[0].answer.fingerprint == task.fingerprint
    (one,) = task.classify([coloured(0, 1)], neighbours=1, with_items=True, false_alarm_rate=0.0)
    assert one.answer.threshold is None
    assert not one.unknown
    assert one.neighbours[0].item.startswith(b"\x89PNG")
    (bare,) = task.classify([coloured(0, 1)], neighbours=0)
    assert bare.neighbours == ()


def test_a_new_class_is_known_to_the_next_call(task: FewShotTask) -> None:
    grey = [np.full((8, 8, 3), 30 + i, np.uint8) for i in range(3)]
    added = task.add(grey, ["grey"] * 3)
    (told,) = task.classify([np.full((8, 8, 3), 33, np.uint8)], neighbours=1)
    assert told.ranking[0].label == "grey"
    assert told.answer.version == added.version
    assert told.neighbours[0].id in added.ids


def test_a_bad_item_is_told_in_its_place_and_the_others_are_taught(client: Client, tmp_path: Path) -> None:
    made = client.create_task("some")
    added = made.add(
        [coloured(0, 0), tmp_path / "gone.png", b"no image", coloured(1, 1)], ["red", "red", "red", "green"]
    )
    assert (added.n_new, len(added.ids), len(added.examples)) == (2, 2, 4)
    assert isinstance(added.failures[1], UnreadableItem)
    assert isinstance(added.failures[2], UndecodableItem)
    assert dict(made.info().classes) == {"green": 1, "red": 1}


def test_more_than_a_request_holds_is_split(client: Client) -> None:
    made = client.create_task("many", backbone="tiny-text")
    words = ["red", "green", "blue", "cat", "dog"]
    done: list[int] = []
    texts = (f"{words[i % 5]} {words[i // 5 % 5]}" for i in range(1100))
    added = made.add(texts, [words[i % 5] for i in range(1100)], progress=lambda n, _: done.append(n))
    assert (added.version, added.n_new, done) == (3, 1100, [1024, 1100])
    assert [one.id for one in made.examples()] == added.ids
    assert len(list(made.examples(label="cat", with_items=True))) == 220
    before = made.info().version
    more = made.add(["cat"] * 1030, ["cat"] * 1030, if_version=before)  # the second request asks for the first's
    assert more.version == before + 2
    with pytest.raises(VersionConflict):
        made.add(["dog"], ["dog"], if_version=before)


def test_embeddings_are_taught_and_asked_about(client: Client, extractor: Extractor) -> None:
    made = client.create_task("rows")
    X = (np.eye(3)[[0, 1, 2] * 500] * 100 + np.arange(1500)[:, None] % 7).astype(np.float64)
    added = made.add_embeddings(X, [*COLOURS] * 500, fingerprint=extractor.fingerprint, ids=map(str, range(1500)))
    assert (added.n_new, added.version) == (1500, 3)
    again = made.add_embeddings(X[:5], [*COLOURS, *COLOURS][:5], fingerprint=extractor.fingerprint, ids=list("01234"))
    assert again.n_new == 0
    told = made.classify_embeddings(X[:1200], fingerprint=extractor.fingerprint)
    assert [one.ranking[0].label for one in told[:4]] == [*COLOURS, "red"]
    assert len(told) == 1200
    (good, bad) = made.classify_embeddings([[1, 0, 0], [np.nan, 0, 0]], fingerprint=extractor.fingerprint)
    assert good.error is None
    assert isinstance(bad.error, UndecodableItem)
    with pytest.raises(EmbeddingMismatch):
        made.add_embeddings(X, [*COLOURS] * 500, fingerprint="0" * 32)
    with pytest.raises(InvalidOption, match="fingerprint"):
        made.add_embeddings(X, [*COLOURS] * 500, fingerprint="")
    with pytest.raises(ExampleConflict):
        made.add_embeddings(X[:1], ["other"], fingerprint=extractor.fingerprint, ids=["1"])
    (first, *_) = made.examples(with_embeddings=True)
    assert first.embedding is not None
    assert first.embedding.tolist() == X[0].tolist()


def test_examples_and_classes_are_changed_and_undone(task: FewShotTask) -> None:
    assert task.remove(["e0"]) == 3
    assert task.relabel({"e1": "red", "e2": "red"}) == 4
    assert task.rename_class("blue", "navy") == 5
    assert task.merge_classes(["green"], "navy") == 6
    assert dict(task.info().classes) == {"navy": 8, "red": 6}
    assert task.remove_class("red") == 7
    kinds = [change.kind for change in task.changes()]
    assert kinds[-1] == "create"
    assert len(kinds) == 7
    assert task.undo() == 8
    assert task.undo(2, if_version=8) == 9
    assert dict(task.info().classes) == {"blue": 4, "green": 4, "red": 6}
    newest, *_ = task.changes(3)
    assert not newest.can_be_undone
    assert newest.created_at.tzinfo is not None
    assert {change.version: change.undone_by for change in task.changes()}[7] == 8
    notes = {one.id: one.note for one in task.examples()}
    assert notes["e3"] == "note 3"
    assert notes["e4"] == ""
    with pytest.raises(ExampleNotFound):
        task.remove(["e0"])
    with pytest.raises(InvalidLabels):
        task.rename_class("gone", "x")
    with pytest.raises(VersionConflict):
        task.undo(if_version=1)


def test_a_task_of_nothing_says_so(client: Client) -> None:
    made = client.create_task("empty", labels=["a", "b"])
    with pytest.raises(TaskEmpty):
        made.classify([coloured(0, 0)])
    assert list(made.examples()) == []


def test_items_of_any_number_are_classified_in_order_and_over_a_stream(task: FewShotTask) -> None:
    seen: list[tuple[int, int | None]] = []
    told = list(
        task.iter_classifications((coloured(i % 3, i) for i in range(200)), progress=lambda *at: seen.append(at))
    )
    assert [one.ranking[0].label for one in told] == [COLOURS[i % 3] for i in range(200)]
    assert seen[-1] == (200, None)
    found = dict(task.iter_unordered([*(coloured(i % 3, i) for i in range(200)), b""], top=2))
    assert [found[i].ranking[0].label for i in range(200)] == [COLOURS[i % 3] for i in range(200)]
    assert len(found[0].ranking) == 2
    assert found[0].answer.version == 2
    assert isinstance(found[200].error, EmptyItem)


def test_a_stream_that_breaks_is_taken_up(client: Client, server: InProcess, task: FewShotTask) -> None:
    with lossy(server.address) as way, Client(way.target, timeout_s=30) as far:
        found: list[int] = []
        for position, one in far.task(task.name).iter_unordered(coloured(i % 3, i) for i in range(600)):
            assert one.ranking[0].label == COLOURS[position % 3]
            found.append(position)
            if len(found) == 100:
                way.lose(lambda: True)
        assert way.n_cut == 1
        assert sorted(found) == list(range(600))


def test_an_add_whose_answer_was_lost_adds_nothing_twice(client: Client, server: InProcess) -> None:
    made = client.create_task("lost")
    with lossy(server.address) as way, Client(way.target, timeout_s=30) as far:
        task = far.task("lost")
        far.describe(NAME)
        way.lose(lambda: made.info().n_examples == 6)
        added = task.add(*examples(6))
        assert way.n_cut == 1
        assert (added.n_new, len(set(added.ids))) == (6, 6)
        assert [one.id for one in made.examples()] == added.ids
        assert made.info().n_examples == 6


def test_an_undo_whose_answer_was_lost_takes_back_no_more(client: Client, server: InProcess, task: FewShotTask) -> None:
    task.remove(["e0"])
    with lossy(server.address) as way, Client(way.target, timeout_s=30) as far:
        there = far.task(task.name)
        way.lose(lambda: task.info().version == 4)
        with pytest.raises(VersionConflict) as caught:
            there.undo(if_version=3)
    assert "may have done" in caught.value.__notes__[0]
    assert task.info().n_examples == 15


def test_examples_may_come_with_the_question(client: Client, extractor: Extractor, tmp_path: Path) -> None:
    contents, labels = examples(9)
    told = client.classify_with_examples(contents, labels, [coloured(2, 50), b"", coloured(1, 51)], top=2)
    assert [one.ranking[0].label for one in (told[0], told[2])] == ["blue", "green"]
    assert isinstance(told[1].error, EmptyItem)
    assert told[0].answer.version == 0
    with pytest.raises(UnreadableItem, match="example 1"):
        client.classify_with_examples([contents[0], tmp_path / "gone"], ["a", "b"], contents)
    with pytest.raises(InvalidLabels, match="8 labels for 9"):
        client.classify_with_examples(contents, labels[:8], contents)
    rows = client.classify_with_example_embeddings(
        np.eye(3), COLOURS, [[0, 5, 0]], fingerprint=extractor.fingerprint, method="knn"
    )
    assert rows[0].ranking[0].label == "green"
    assert rows[0].answer.method
    assert client.tasks() == []


def test_the_pool_is_told_what_to_label_next(
    task: FewShotTask, extractor: Extractor, caplog: pytest.LogCaptureFixture
) -> None:
    pool = [b"", *(coloured(i % 3, 300 + i) for i in range(40))]
    told = task.suggest(pool, 5)
    assert len(set(told.positions)) == 5
    assert 0 not in told.positions
    assert isinstance(told.failures[0], EmptyItem)
    assert told.n_failed == 1
    assert told.reason
    X = np.random.default_rng(0).normal(size=(1500, 3)).astype(np.float32)
    rows = task.suggest_embeddings(X, 3, fingerprint=extractor.fingerprint)
    assert len(rows.items) == 3
    assert all(0 <= one.uncertainty <= 1 for one in rows.items)
    with pytest.raises(InvalidOption, match="at least 1"):
        task.suggest(pool, 0)

    def broken() -> Iterator[bytes]:
        yield coloured(0, 0)
        raise RuntimeError("of the caller")

    with pytest.raises(RuntimeError, match="of the caller"):
        task.suggest(broken())
    assert "Exception iterating" not in caplog.text


def test_a_task_is_looked_through(task: FewShotTask) -> None:
    task.relabel({"e0": "blue"})
    task.add([coloured(0, 3)], ["odd"], ids=["odd"])
    found = task.audit(5)
    assert found.accuracy is not None
    assert 0 <= found.accuracy.low <= found.accuracy.accuracy <= found.accuracy.high <= 1
    assert "e0" in {one.id for one in found.contradictions}
    assert found.small_classes["odd"] == 1
    assert found.n_contradictions >= len(found.contradictions)


def test_a_task_goes_elsewhere_as_a_file(client: Client, task: FewShotTask, tmp_path: Path) -> None:
    file = tmp_path / "colours.sqlite"
    task.export(file)
    assert list(tmp_path.iterdir()) == [file]
    with pytest.raises(TaskExists):
        client.import_task(file)
    copy = client.import_task(file, name="copy")
    assert [(one.id, one.label, one.item) for one in copy.examples(with_items=True)] == [
        (one.id, one.label, one.item) for one in task.examples(with_items=True)
    ]
    broken = tmp_path / "broken.sqlite"
    broken.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(TaskInvalid):
        client.import_task(broken, name="broken")
    with pytest.raises(FileNotFoundError):
        client.import_task(tmp_path / "gone.sqlite")
    with pytest.raises(OSError, match=r"."):
        task.export(tmp_path / "no" / "folder.sqlite")
    client.delete_task("colours")
    with pytest.raises(TaskNotFound):
        task.export(file)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken.sqlite", "colours.sqlite"]


def test_names_of_classes_are_knowledge(client: Client) -> None:
    made = client.create_task(
        "names", labels=["cat", "dog"], backbone="tiny-text", zero_shot=True, texts={"dog": "red"}
    )
    (told,) = made.classify(["red"], false_alarm_rate=0.0)
    assert TABLE.shape == (6, 4)
    assert told.label == "dog"
    assert dict(made.info().settings.texts) == {"dog": "red"}
    assert dict(made.update(texts={"dog": ""}).settings.texts) == {}


def test_a_closed_client_says_so(server: InProcess, task: FewShotTask) -> None:
    with Client(server.address, backbone=NAME) as one:
        far = one.task(task.name)
    for call in (far.info, far.audit, lambda: far.suggest([b"x"]), lambda: list(far.iter_unordered([b"x"]))):
        with pytest.raises(ClientClosed):
            call()
