"""The task store: changes, undo, limits, versions, export; all of it beside what is on disk."""

import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from classifiers import errors
from classifiers.tasks import Limits, Task, TaskStore
from classifiers.tasks.schema import connect
from tests.classifiers.tasks import (
    DIM,
    FACTS,
    FINGERPRINT,
    add,
    check_nearest,
    check_rows,
    dumped,
    embedding,
    embeddings,
    held,
    label,
)

CHANGES: dict[str, Callable[[Task], int]] = {
    "add": lambda task: add(task, 20, 21, 22),
    "remove": lambda task: task.remove(["3", "1"]),
    "relabel": lambda task: task.relabel({"1": "new", "2": "class 4"}),
    "rename class": lambda task: task.rename_class("class 1", "other"),
    "merge classes": lambda task: task.merge_classes(["class 1", "class 2"], "class 3"),
    "remove class": lambda task: task.remove_class("class 2"),
}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TaskStore]:
    with TaskStore.open(tmp_path / "tasks") as store:
        yield store


@pytest.fixture
def task(store: TaskStore) -> Task:
    """A task with examples 0 to 9, two of each of five classes."""
    task = store.create("pets", **FACTS)
    add(task, *range(10))
    return task


def again(store: TaskStore) -> Task:
    """Read the task of a store from disk."""
    store.close()
    return TaskStore.open(store.folder).task("pets")


def test_what_was_added_is_there_after_the_store_is_opened_again(store: TaskStore, task: Task) -> None:
    before = dumped(task)
    found = again(store)
    assert dumped(found) == before
    assert found.facts == task.facts
    assert found.version == 2
    check_rows(found.support)
    check_nearest(found, embeddings(range(5)))


def test_a_commit_waits_for_the_disk(task: Task) -> None:
    with closing(connect(task.path)) as db:
        assert db.execute("PRAGMA synchronous").fetchone() == (2,)
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_an_example_keeps_its_note_key_and_item(store: TaskStore) -> None:
    task = store.create("pets", **FACTS, keep_items=True)
    added = task.add(
        embeddings([1]), ["a"], fingerprint=FINGERPRINT, notes=["n"], item_keys=[b"\0k"], items=[b"\xffitem"]
    )
    (one,) = again(store).examples(added.ids)
    assert (one.label, one.note, one.item_key, one.item) == ("a", "n", b"\0k", b"\xffitem")
    np.testing.assert_array_equal(one.embedding, embedding(1))


def test_items_are_not_kept_unless_asked(task: Task) -> None:
    added = task.add(embeddings([1]), ["a"], fingerprint=FINGERPRINT, items=[b"private"])
    assert task.examples(added.ids)[0].item is None
    assert b"private" not in task.path.read_bytes() + task.path.with_name("pets.sqlite-wal").read_bytes()


def test_an_add_that_is_repeated_changes_nothing(task: Task) -> None:
    before = dumped(task)
    assert add(task, *range(10)) == 2
    assert add(task, 3, 10, 3, 10) == 3
    assert len(task.support) == 11
    task.undo()
    assert dumped(task) == before


def test_nothing_makes_no_version(task: Task) -> None:
    assert (add(task), task.remove([]), task.relabel({})) == (2, 2, 2)


@pytest.mark.parametrize("ids", [["3"], ["new", "new"]])
def test_an_id_with_another_label_or_item_is_refused(task: Task, ids: list[str]) -> None:
    before = dumped(task)
    X = embeddings([3, 3][: len(ids)])
    with pytest.raises(errors.ExampleConflict, match="relabel"):
        task.add(X, ["other", "another"][: len(ids)], ids=ids, fingerprint=FINGERPRINT)
    with pytest.raises(errors.ExampleConflict, match="another item"):
        task.add(embeddings([4]), [label(3)], ids=["3"], fingerprint=FINGERPRINT)
    assert dumped(task) == before


@pytest.mark.parametrize("change", CHANGES)
def test_each_change_is_undone_and_is_on_disk(store: TaskStore, task: Task, change: str) -> None:
    before = dumped(task)
    assert CHANGES[change](task) == 3
    changed = dumped(task)
    assert changed != before
    check_rows(task.support)
    check_nearest(task, embeddings(range(5)))
    task = again(store)
    assert dumped(task) == changed
    assert task.undo() == 4
    assert dumped(task) == before
    check_nearest(task, embeddings(range(5)))
    undone, done = task.history(2)
    assert (done.kind, done.undone_by) == (change, 4)
    assert undone.detail == {"versions": [3]}


def test_all_changes_are_undone_at_once(task: Task) -> None:
    before = dumped(task)
    for name in ("add", "relabel", "rename class", "remove", "merge classes"):
        if name == "merge classes":
            task.merge_classes(["class 2", "other"], "class 3")
        else:
            CHANGES[name](task)
    task.remove_class("class 3")
    task.rename_class("class 4", "class 3")
    task.undo(3)
    task.undo(4)
    assert dumped(task) == before
    with pytest.raises(errors.InvalidOption, match="2 changes cannot be undone, 1 can"):
        task.undo(2)
    task.undo()
    assert len(task.support) == 0
    assert task.nearest(embeddings([1]), 3).positions.shape == (1, 0)


def test_a_support_never_changes(task: Task) -> None:
    support = task.support
    X, y = support.X.copy(), support.y.copy()
    for change in CHANGES.values():
        change(task)
        task.undo()
    task.remove([str(number) for number in range(10)])
    add(task, *range(30, 90))
    np.testing.assert_array_equal(support.X, X)
    np.testing.assert_array_equal(support.y, y)
    with pytest.raises(ValueError, match="read-only"):
        support.X[0] = 0


def test_neighbours_are_those_of_brute_force_with_ties_and_zeros(task: Task) -> None:
    add(task, *range(97, 400))
    zeros = [np.zeros(DIM, np.float32)]
    task.add(zeros, ["zero"], fingerprint=FINGERPRINT)
    queries = np.concatenate([embeddings(range(50)), zeros])
    for k in (1, 3, 7, 1000):
        check_nearest(task, queries, k)
    check_nearest(task, queries * np.float32(1e30))


def test_one_of_two_teachers_is_told_that_the_other_was_first(task: Task) -> None:
    add(task, 10, if_version=2)
    with pytest.raises(errors.VersionConflict, match=r"at version 3.*meant for version 2"):
        add(task, 11, if_version=2)
    assert "11" not in held(task.support)


@pytest.mark.parametrize(
    ("what", "error", "words"),
    [
        ({"X": np.ones((1, 9))}, errors.EmbeddingMismatch, r"\(1, 9\).*length 8"),
        ({"X": np.ones(8)}, errors.EmbeddingMismatch, "length 8"),
        ({"X": [["a"] * 8]}, errors.EmbeddingMismatch, "no array of numbers"),
        ({"X": np.full((1, 8), np.nan)}, errors.NotFinite, "first row 0"),
        ({"X": np.full((1, 8), 1e300)}, errors.NotFinite, "first row 0"),
        ({"fingerprint": "cd" * 16}, errors.EmbeddingMismatch, "cdcd.*tiny"),
        ({"labels": ["x" * 10_000_000]}, errors.LimitExceeded, "10,000,000 bytes.*1 to 1,000"),
        ({"labels": [""]}, errors.LimitExceeded, "label has 0 bytes"),
        ({"labels": ["\ud800"]}, errors.InvalidOption, "half a character"),
        ({"labels": ["a\0b"]}, errors.InvalidOption, "NUL"),
        ({"labels": [3]}, errors.InvalidOption, "int"),
        ({"labels": ["a", "b"]}, errors.InvalidOption, "2 labels and 1"),
        ({"ids": ["x" * 201]}, errors.LimitExceeded, "id has 201"),
        ({"item_keys": ["text"]}, errors.InvalidOption, "str, and must be bytes"),
        ({"item_keys": [b"x" * 201]}, errors.LimitExceeded, "201 bytes in an item key"),
        ({"notes": ["x" * 4001]}, errors.LimitExceeded, "note has 4,001"),
    ],
)
def test_what_cannot_be_added_is_refused_with_nothing_lost(
    task: Task, what: dict[str, Any], error: type[Exception], words: str
) -> None:
    before = dumped(task)
    with pytest.raises(error, match=words):
        task.add(**{"X": embeddings([1]), "labels": ["a"], "fingerprint": FINGERPRINT} | what)
    assert dumped(task) == before
    assert task.version == 2


def test_a_task_is_full_and_loses_nothing(tmp_path: Path) -> None:
    limits = Limits(max_examples=10, max_labels=6, max_dim=8, max_item_bytes=4)
    with TaskStore.open(tmp_path, limits=limits) as store:
        task = store.create("pets", **FACTS, keep_items=True)
        add(task, *range(9))
        with pytest.raises(errors.LimitExceeded, match=r"11 examples, the limit is 10; remove some"):
            add(task, 9, 10)
        with pytest.raises(errors.LimitExceeded, match="7 labels, the limit is 6"):
            task.relabel({"1": "a", "2": "b"})
        with pytest.raises(errors.LimitExceeded, match="5 bytes in an item"):
            task.add(embeddings([1]), ["a"], fingerprint=FINGERPRINT, items=[b"12345"])
        with pytest.raises(errors.LimitExceeded, match="9 values"):
            store.create("wide", **FACTS | {"dim": 9})
        assert add(task, 9) == 3
        assert len(task.support) == 10


def test_ten_thousand_labels(store: TaskStore) -> None:
    task = store.create("pets", **FACTS)
    labels = [f"label {i}" for i in range(10_000)]
    task.add(np.ones((10_000, DIM)), labels, fingerprint=FINGERPRINT)
    assert task.support.y.tolist() == labels
    assert again(store).support.y.tolist() == labels


def test_changes_beyond_the_bound_cannot_be_undone_and_leave_nothing_behind(tmp_path: Path) -> None:
    with TaskStore.open(tmp_path, limits=Limits(max_undo=3, max_history=5)) as store:
        task = store.create("pets", **FACTS)
        add(task, *range(20))
        for number in range(10):
            task.remove([str(number)])
        with pytest.raises(errors.InvalidOption, match="3 can"):
            task.undo(4)
        assert len(task.history()) == 5
        with sqlite3.connect(task.path) as db:
            assert db.execute("SELECT count(*) FROM embeddings").fetchone()[0] == 10 + 3
        db.close()
        task.undo(3)
        assert len(task.support) == 13
        check_nearest(task, embeddings(range(5)))


@pytest.mark.parametrize(
    "call",
    [
        lambda task: task.remove(["1", "nobody"]),
        lambda task: task.relabel({"1": "a", "nobody": "a"}),
        lambda task: task.examples(["nobody"]),
        lambda task: task.rename_class("nobody", "a"),
        lambda task: task.rename_class("class 1", "class 2"),
        lambda task: task.merge_classes(["class 1"], "nobody"),
        lambda task: task.remove_class("nobody"),
        lambda task: task.undo(0),
        lambda task: task.nearest(embeddings([1]), 0),
        lambda task: task.nearest(np.ones((1, 3)), 1),
    ],
)
def test_what_is_not_there_is_told_and_nothing_is_done(task: Task, call: Callable[[Task], Any]) -> None:
    before = dumped(task)
    with pytest.raises((errors.ExampleNotFound, errors.InvalidLabels, errors.InvalidOption, errors.EmbeddingMismatch)):
        call(task)
    assert dumped(task) == before


def test_a_name_is_one_tasks(store: TaskStore, task: Task) -> None:
    with pytest.raises(errors.TaskExists, match="pets"):
        store.create("pets", **FACTS)
    with pytest.raises(errors.TaskNotFound, match="there are: pets"):
        store.task("cats")
    for name in ("", "../x", ".hidden", "a" * 101, "a/b"):
        with pytest.raises(errors.InvalidOption, match="no task's name"):
            store.create(name, **FACTS)
    with pytest.raises(errors.InvalidLabels, match="once"):
        store.create("cats", **FACTS, labels=["a", "a"])
    assert store.names() == ["pets"]


def test_a_deleted_task_is_gone_and_its_name_free(store: TaskStore, task: Task) -> None:
    support = task.support
    with pytest.raises(errors.VersionConflict):
        store.delete("pets", if_version=1)
    store.delete("pets", if_version=2)
    assert [path.name for path in store.folder.iterdir()] == [".lock"]
    with pytest.raises(errors.TaskNotFound, match="deleted"):
        add(task, 11)
    check_rows(support)
    # What SQLite had beside a file that is gone is not played into the next one.
    (store.folder / "pets.sqlite-wal").write_bytes(b"left over")
    assert len(store.create("pets", **FACTS, labels=["a"]).support) == 0


def test_an_export_is_the_task_without_what_was_removed(store: TaskStore, task: Task, tmp_path: Path) -> None:
    task.add(embeddings([50]), ["secret label"], ids=["secret id"], notes=["secret note"], fingerprint=FINGERPRINT)
    task.remove_class("secret label")
    assert task.export(tmp_path / "pets.export") == 4
    content = (tmp_path / "pets.export").read_bytes()
    assert b"secret note" not in content
    assert b"secret id" not in content
    assert [path.name for path in tmp_path.glob(".*")] == []
    other = store.import_file(tmp_path / "pets.export", name="copy", fingerprint=FINGERPRINT, dim=DIM)
    assert dumped(other) == dumped(task)
    assert (other.facts.name, other.version) == ("copy", 4)
    add(other, 60)
    other.undo()
    assert dumped(other) == dumped(task)
    with pytest.raises(errors.InvalidOption, match="0 can"):
        other.undo()
    with pytest.raises(errors.TaskExists):
        store.import_file(tmp_path / "pets.export")
    with pytest.raises(errors.EmbeddingMismatch, match="fingerprint"):
        store.import_file(tmp_path / "pets.export", name="b", fingerprint="cd" * 16)
    with pytest.raises(errors.EmbeddingMismatch, match="dim"):
        store.import_file(tmp_path / "pets.export", name="b", dim=9)
    strict = Limits(max_dim=7), Limits(max_examples=9), Limits(max_labels=4), Limits(max_label_bytes=3)
    for i, limits in enumerate(strict):
        with TaskStore.open(tmp_path / str(i), limits=limits) as small, pytest.raises(errors.LimitExceeded):
            small.import_file(tmp_path / "pets.export")
    assert store.names() == ["copy", "pets"]
    assert not list(store.folder.glob(".new-*"))


def altered(path: Path, statement: str) -> None:
    db = sqlite3.connect(path)
    db.execute("PRAGMA writable_schema=ON")
    db.executescript(statement)
    db.close()


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("PRAGMA user_version = 2", "format 2, this Headwater reads 1; upgrade"),
        ("PRAGMA application_id = 7", "another program"),
        ("CREATE TRIGGER t AFTER INSERT ON facts BEGIN DELETE FROM examples; END", "other tables"),
        ("CREATE TABLE more (a)", "other tables"),
        ("UPDATE embeddings SET embedding = zeroblob(32) WHERE number = 3", "embedding of example 3"),
        ("UPDATE embeddings SET embedding = zeroblob(36) WHERE number = 3", "embedding of example 3"),
        ("DELETE FROM embeddings WHERE number = 10", "9 embeddings of 10"),
        ("UPDATE examples SET class = 99 WHERE number = 3", "no class"),
        ("UPDATE facts SET value = '7' WHERE key = 'name'", "malformed"),
        ("UPDATE facts SET value = '{' WHERE key = 'settings'", "malformed"),
        ("DELETE FROM facts WHERE key = 'dim'", "malformed"),
    ],
)
def test_an_altered_file_is_refused(store: TaskStore, task: Task, tmp_path: Path, statement: str, words: str) -> None:
    export = tmp_path / "pets.export"
    task.export(export)
    altered(export, statement)
    with pytest.raises(errors.TaskInvalid, match=words):
        store.import_file(export, name="copy")
    store.close()
    altered(task.path, statement)
    with TaskStore.open(store.folder) as again, pytest.raises(errors.TaskInvalid, match=words):
        again.task("pets")


@pytest.mark.parametrize("content", [b"", b"no database", b"SQLite format 3\0" + bytes(5000)])
def test_a_file_that_is_no_task_is_refused_and_harms_no_other(store: TaskStore, task: Task, content: bytes) -> None:
    path = store.folder / "cats.sqlite"
    path.write_bytes(content)
    with pytest.raises(errors.TaskInvalid, match=r"cats\.sqlite"):
        store.task("cats")
    with pytest.raises(errors.TaskInvalid):
        store.import_file(path, name="dogs")
    with pytest.raises(errors.TaskInvalid, match="no file"):
        store.import_file(store.folder / "none", name="dogs")
    add(task, 10)
    store.delete("cats")
    assert store.names() == ["pets"]


def test_pages_that_are_spoilt_are_found(store: TaskStore, task: Task) -> None:
    add(task, *range(10, 300))
    store.close()
    content = bytearray(task.path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 4096] = bytes(4096)
    task.path.write_bytes(content)
    with TaskStore.open(store.folder) as again, pytest.raises(errors.TaskInvalid):
        again.task("pets")


def test_many_tasks_keep_few_files_open(tmp_path: Path) -> None:
    with TaskStore.open(tmp_path, limits=Limits(max_open_files=4)) as store:
        add(store.create("pets", **FACTS), 1)
        store.task("pets").rest()
        for i in range(10):  # a task is named as its file is
            shutil.copyfile(tmp_path / "pets.sqlite", tmp_path / f"task-{i}.sqlite")
            assert store.task(f"task-{i}").facts.name == f"task-{i}"
        for i in range(10):
            assert add(store.task(f"task-{i}"), 1000 + i) == 3
        opened = [str(one.resolve()) for one in Path("/proc/self/fd").iterdir()]
        assert sum(str(tmp_path) in one and one.endswith(".sqlite") for one in opened) == 4


OTHER = """
import sys
from classifiers.errors import StoreInUse
from classifiers.tasks import TaskStore
try:
    TaskStore.open(sys.argv[1])
except StoreInUse as error:
    print(error)
"""


def test_a_second_process_is_refused_until_the_first_is_done(store: TaskStore, task: Task) -> None:
    command = [sys.executable, "-c", OTHER, str(store.folder)]
    assert "another process has the tasks" in subprocess.run(command, check=True, capture_output=True, text=True).stdout
    with pytest.raises(errors.StoreInUse):
        TaskStore.open(store.folder)
    store.close()
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == ""
    with pytest.raises(errors.StoreInUse, match="closed"):
        store.task("pets")


# A real write that fails, wherever the test runs: the process may write no file beyond a size.
FULL = """
import resource, signal, sys
from classifiers.errors import TaskUnwritable
from classifiers.tasks import TaskStore
from tests.classifiers.tasks import FACTS, add, check_nearest, check_rows, embeddings, held
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with TaskStore.open(sys.argv[1]) as store:
    task = store.create("pets", **FACTS)
    add(task, *range(50))
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (160_000, hard))
    n, refused = 50, 0
    while refused < 3:
        try:
            add(task, *range(n, n + 50))
            n += 50
        except TaskUnwritable as error:
            assert "make room" in str(error), error
            refused += 1
            assert len(task.support) == n
    for change in (lambda: store.create("cats", **FACTS, labels=["x" * 900 + str(i) for i in range(500)]),
                   lambda: task.export(sys.argv[1] + "/export")):
        try:
            change()
        except TaskUnwritable:
            refused += 1
    check_nearest(task, embeddings(range(5)))
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    add(task, n)
    check_rows(task.support)
    check_nearest(task, embeddings(range(5)))
    assert store.names() == ["pets"], store.names()
print(n + 1, refused)
"""


def test_a_full_disk_is_told_and_loses_nothing(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    n, refused = map(int, done.stdout.split())
    assert refused >= 4
    assert not list(tmp_path.glob(".new-*"))
    with TaskStore.open(tmp_path) as store:
        assert held(store.task("pets").support) == {str(number): label(number) for number in range(n)}


class Model(RuleBasedStateMachine):
    """A task beside a plain dict of id to label, with a list of what it was before each change."""

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.store = TaskStore.open(self.folder.name)
        self.task = self.store.create("pets", **FACTS)
        self.model: dict[str, str] = {}
        self.classes: set[str] = set()
        self.past: list[tuple[dict[str, str], set[str]]] = []

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            self.folder.cleanup()

    def keep(self) -> None:
        self.past.append((dict(self.model), set(self.classes)))

    @rule(numbers=st.lists(st.integers(0, 40), min_size=1, max_size=8, unique=True))
    def add(self, numbers: list[int]) -> None:
        numbers = [one for one in numbers if str(one) not in self.model]
        if numbers:
            self.keep()
        add(self.task, *numbers)
        self.model |= {str(one): label(one) for one in numbers}
        self.classes |= {label(one) for one in numbers}

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        ids = data.draw(st.lists(st.sampled_from(sorted(self.model)), min_size=1, max_size=5, unique=True))
        self.keep()
        self.task.remove(ids)
        for one in ids:
            del self.model[one]

    @precondition(lambda self: self.model)
    @rule(data=st.data(), to=st.sampled_from(["class 0", "class 1", "a", "b"]))
    def relabel(self, data: st.DataObject, to: str) -> None:
        ids = data.draw(st.lists(st.sampled_from(sorted(self.model)), min_size=1, max_size=5, unique=True))
        self.keep()
        self.task.relabel(dict.fromkeys(ids, to))
        self.model |= dict.fromkeys(ids, to)
        self.classes.add(to)

    @precondition(lambda self: self.classes)
    @rule(data=st.data(), to=st.sampled_from(["class 0", "class 1", "a", "b", "c"]))
    def rename(self, data: st.DataObject, to: str) -> None:
        label = data.draw(st.sampled_from(sorted(self.classes)))
        if to in self.classes:
            with pytest.raises(errors.InvalidLabels):
                self.task.rename_class(label, to)
            return
        self.keep()
        self.task.rename_class(label, to)
        self.model = {one: to if own == label else own for one, own in self.model.items()}
        self.classes = self.classes - {label} | {to}

    @precondition(lambda self: len(self.classes) > 1)
    @rule(data=st.data())
    def merge(self, data: st.DataObject) -> None:
        labels = data.draw(st.lists(st.sampled_from(sorted(self.classes)), min_size=2, max_size=3, unique=True))
        self.keep()
        self.task.merge_classes(labels, labels[0])
        self.model = {one: labels[0] if own in labels else own for one, own in self.model.items()}
        self.classes -= set(labels[1:])

    @precondition(lambda self: self.classes)
    @rule(data=st.data())
    def remove_class(self, data: st.DataObject) -> None:
        label = data.draw(st.sampled_from(sorted(self.classes)))
        self.keep()
        self.task.remove_class(label)
        self.model = {one: own for one, own in self.model.items() if own != label}
        self.classes.discard(label)

    @precondition(lambda self: self.past)
    @rule(data=st.data())
    def undo(self, data: st.DataObject) -> None:
        n = data.draw(st.integers(1, min(4, len(self.past))))
        self.task.undo(n)
        self.model, self.classes = self.past[-n]
        del self.past[-n:]

    @rule()
    def open_again(self) -> None:
        self.store.close()
        self.store = TaskStore.open(self.folder.name)
        self.task = self.store.task("pets")

    @invariant()
    def it_is_as_the_model_says(self) -> None:
        if hasattr(self, "task"):
            support = self.task.support
            assert held(support) == self.model
            assert set(support.labels.values()) == self.classes
            check_rows(support)
            check_nearest(self.task, embeddings([1, 50]), 3)


TestModel = Model.TestCase
TestModel.settings = settings(
    max_examples=20, stateful_step_count=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
