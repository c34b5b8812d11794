"""Settings of a task: checked, kept, changed with a version, in no undo's way; malformed ones are found."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from classifiers import adaptive, errors
from classifiers.tasks import Settings, Task, TaskStore
from classifiers.tasks.settings import METHODS
from tests.classifiers.tasks import FACTS, add, check_nearest, dumped, embeddings, held

OTHER = Settings(method="knn", false_alarm_rate=0, zero_shot=True, texts={"chat": "a cat, in French: chât"})


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TaskStore]:
    with TaskStore.open(tmp_path / "tasks") as store:
        yield store


@pytest.fixture
def task(store: TaskStore) -> Task:
    task = store.create("pets", **FACTS)
    add(task, *range(10))
    return task


def again(store: TaskStore) -> Task:
    store.close()
    return TaskStore.open(store.folder).task("pets")


def test_the_methods_are_those_of_the_classifier() -> None:
    assert (adaptive.AUTO, *adaptive.METHODS) == METHODS


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ({"method": "best"}, "'best', not one of auto"),
        ({"method": None}, "not one of"),
        ({"false_alarm_rate": 1}, "below 1"),
        ({"false_alarm_rate": -0.1}, "below 1"),
        ({"false_alarm_rate": float("nan")}, "below 1"),
        ({"false_alarm_rate": "0.1"}, "below 1"),
        ({"zero_shot": 1}, "true or false"),
        ({"texts": {"a": 3}}, "a str"),
        ({"texts": ["a"]}, "a str"),
    ],
)
def test_what_cannot_be_set_is_refused(what: dict[str, Any], words: str) -> None:
    with pytest.raises(errors.InvalidOption, match=words):
        Settings(**what)


def test_settings_are_kept_from_the_beginning(store: TaskStore) -> None:
    store.create("pets", **FACTS, settings=OTHER)
    assert again(store).settings == OTHER


def test_an_update_makes_a_version_and_is_kept(store: TaskStore, task: Task) -> None:
    before, support = dumped(task), task.support
    assert task.update(OTHER) == 3
    assert (task.version, task.settings, support.version) == (3, OTHER, 2)
    assert dumped(task) == before
    check_nearest(task, embeddings(range(5)))
    told = task.history(1)[0]
    assert (told.version, told.kind, told.n_examples, told.can_be_undone) == (3, "update", 0, False)
    assert told.detail["settings"]["method"] == "knn"
    assert task.update(OTHER) == 3
    found = again(store)
    assert (found.version, found.settings, dumped(found)) == (3, OTHER, before)


def test_an_update_is_in_no_undos_way(store: TaskStore, task: Task) -> None:
    before = dumped(task)
    add(task, 10)
    task.update(OTHER)
    task.remove(["1"])
    task.update(Settings())
    task.undo(2)
    assert dumped(task) == before
    assert task.settings == Settings()
    task.undo()
    assert held(task.support) == {}
    with pytest.raises(errors.InvalidOption, match="0 can"):
        task.undo()


def test_an_update_may_be_meant_for_a_version(task: Task) -> None:
    with pytest.raises(errors.VersionConflict):
        task.update(OTHER, if_version=1)
    assert (task.version, task.settings) == (2, Settings())


@pytest.mark.parametrize("texts", [{"a": "x" * 4001}, {"a": ""}, {"": "x"}, {"a" * 1001: "x"}])
def test_texts_have_bounds(store: TaskStore, task: Task, texts: dict[str, str]) -> None:
    for change in (lambda one: task.update(one), lambda one: store.create("cats", **FACTS, settings=one)):
        with pytest.raises(errors.LimitExceeded):
            change(Settings(texts=texts))
    assert (task.version, store.names()) == (2, ["pets"])


def test_an_export_has_the_settings(store: TaskStore, task: Task, tmp_path: Path) -> None:
    task.update(OTHER)
    task.export(tmp_path / "export")
    assert store.import_file(tmp_path / "export", name="dogs").settings == OTHER


@pytest.mark.parametrize(
    "value",
    [
        {"method": "best"},
        {"texts": {"a": ["b"]}},
        {"texts": {"a": "x" * 5000}},
        {"rule": {}},
        {"false_alarm_rate": 2},
        [],
        "auto",
        None,
    ],
)
def test_an_import_with_malformed_settings_is_refused(store: TaskStore, task: Task, tmp_path: Path, value: Any) -> None:
    task.export(tmp_path / "export")
    with closing(sqlite3.connect(tmp_path / "export")) as db, db:
        db.execute("UPDATE facts SET value = ? WHERE key = 'settings'", (json.dumps(value),))
    with pytest.raises((errors.TaskInvalid, errors.LimitExceeded)):
        store.import_file(tmp_path / "export", name="dogs")
    assert store.names() == ["pets"]
