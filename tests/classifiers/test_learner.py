"""The learner: an answer at once, a better one soon; beside AdaptiveClassifier, fitted directly."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from classifiers import errors
from classifiers.adaptive import METHODS, AdaptiveClassifier
from classifiers.learner import Learner, Taught
from classifiers.learnt import AT_ONCE, Numbered
from classifiers.tasks import Settings, Support, Task, TaskStore
from tests.classifiers.conftest import Digits

TOLERANCE = 2e-4  # of float32
SOON_S = 120  # on a busy machine
FACTS: dict[str, Any] = {"backbone": "digits", "fingerprint": "ab" * 16, "dim": 64}


@pytest.fixture(scope="module")
def learner() -> Iterator[Learner]:
    with Learner() as learner:
        yield learner


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TaskStore]:
    with TaskStore.open(tmp_path) as store:
        yield store


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """Of a task that no other test has."""
    return "".join(one if one.isalnum() else "-" for one in request.node.name)[:90]


def teach(task: Task, digits: Digits, n: int, *, first: int = 0, classes: int = 10) -> None:
    rows = np.flatnonzero(digits.y < classes)[first : first + n]
    labels = [f"digit {one}" for one in digits.y[rows]]
    task.add(digits.X[rows], labels, ids=[str(one) for one in rows], fingerprint=FACTS["fingerprint"])


def check(taught: Taught, support: Support, queries: NDArray[np.float32], method: str, **options: Any) -> None:
    """Compare an answer with a classifier that is fitted on the same."""
    direct = AdaptiveClassifier(method=method, **options).fit(support.X, support.y)
    found = taught.classify(queries)
    assert taught.labels.tolist() == direct.classes_.tolist()
    np.testing.assert_allclose(found.probabilities, direct.predict_proba(queries), atol=TOLERANCE)
    np.testing.assert_allclose(found.scores, direct.knowing(queries), rtol=TOLERANCE, atol=TOLERANCE)
    assert taught.method == direct.chosen_
    assert taught.calibrated == direct.calibrated_
    if taught.threshold is None:
        assert not np.isfinite(direct.threshold_)
    else:
        assert taught.threshold == pytest.approx(direct.threshold_)


@pytest.mark.parametrize("method", ["auto", *METHODS])
def test_the_answer_is_at_once_by_class_means_and_then_by_the_method(
    learner: Learner, store: TaskStore, digits: Digits, name: str, method: str
) -> None:
    settings = Settings(method=method, false_alarm_rate=0.1)
    task = store.create(name, **FACTS, settings=settings)
    teach(task, digits, 24, classes=3)
    queries = digits.X[1000:1100]
    taught = learner.taught(name, task.support, settings)
    check(taught, task.support, queries, "class-mean", false_alarm_rate=0.1)
    assert taught.refining == (method != "class-mean")
    assert learner.wait(name, SOON_S)
    taught = learner.taught(name, task.support, settings)
    check(taught, task.support, queries, method, false_alarm_rate=0.1)
    assert (taught.version, taught.learnt_from, taught.refining) == (2, 2, False)
    if method == "auto":
        direct = AdaptiveClassifier(false_alarm_rate=0.1).fit(task.support.X, task.support.y)
        assert taught.reason == direct.reason_
        assert taught.threshold_at(0.3) == pytest.approx(direct.threshold_at(0.3))
    else:
        assert taught.reason == "it was asked for"


def test_every_change_is_in_the_very_next_answer(learner: Learner, store: TaskStore, digits: Digits, name: str) -> None:
    task = store.create(name, **FACTS, labels=["empty"])
    teach(task, digits, 40, classes=4)
    learner.taught(name, task.support, task.settings)
    learner.wait(name, SOON_S)
    assert learner.taught(name, task.support, task.settings).method != "class-mean"
    new = digits.X[digits.y == 9][:1]
    ids = task.support.ids.tolist()
    for change in (
        lambda: task.add(new, ["ñew"], fingerprint=FACTS["fingerprint"]),
        lambda: task.relabel({ids[0]: "digit 3", ids[1]: "other"}),
        lambda: task.remove(ids[2:5]),
        lambda: task.rename_class("digit 2", "a two"),
        lambda: task.merge_classes(["other"], "digit 1"),
        lambda: task.remove_class("digit 3"),
        lambda: task.undo(2),
    ):
        change()
        taught = learner.taught(name, task.support, task.settings)
        check(taught, task.support, digits.X[1000:1050], "class-mean")
        assert (taught.version, taught.learnt_from, taught.refining) == (task.version, task.version, True)
        assert "empty" not in taught.labels
    assert taught.labels[taught.classify(new).probabilities.argmax()] == "ñew"
    learner.forget(name)


def test_what_is_known_is_not_learnt_twice(learner: Learner, store: TaskStore, digits: Digits, name: str) -> None:
    task = store.create(name, **FACTS)
    teach(task, digits, 30, classes=3)
    support, settings = task.support, task.settings
    found: list[Taught] = []
    ask = lambda: found.append(learner.taught(name, support, settings))  # noqa: E731
    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(one.learnt) for one in found if one.refining}) <= 1
    learner.wait(name, SOON_S)
    head = learner.taught(name, support, settings)
    task.update(Settings(false_alarm_rate=0.2))
    other = learner.taught(name, task.support, task.settings)
    assert (other.learnt is head.learnt, other.version, other.learnt_from, other.refining) == (True, 3, 3, False)
    assert other.threshold == head.threshold_at(0.2) != head.threshold
    task.update(Settings(false_alarm_rate=0))
    assert learner.taught(name, task.support, task.settings).threshold is None
    task.update(Settings(method="ridge"))
    assert learner.taught(name, task.support, task.settings).refining
    assert learner.wait(name, SOON_S)
    assert learner.taught(name, task.support, task.settings).method == "ridge"


@pytest.mark.parametrize(("n", "classes", "why"), [(1, 10, "one class"), (8, 1, "one class"), (2, 2, "1 shot")])
@pytest.mark.parametrize("method", ["auto", "kernel-logistic"])
def test_few_examples_are_learnt_from_at_once(
    learner: Learner, store: TaskStore, digits: Digits, name: str, n: int, classes: int, why: str, method: str
) -> None:
    task = store.create(name, **FACTS, settings=Settings(method=method))
    teach(task, digits, n, classes=classes)
    taught = learner.taught(name, task.support, task.settings)
    assert not taught.refining
    if method == "auto" or "class" in why:
        assert why in taught.reason
        assert taught.method == "class-mean"
    else:
        assert taught.method == method
    assert np.isfinite(taught.classify(digits.X[:3]).probabilities).all()


def test_with_nothing_to_go_by_there_is_an_error(learner: Learner, store: TaskStore, digits: Digits, name: str) -> None:
    task = store.create(name, **FACTS, labels=["empty"])
    with pytest.raises(errors.TaskEmpty, match="add one"):
        learner.taught(name, task.support, task.settings)
    with pytest.raises(errors.TaskEmpty, match="send one"):
        learner.once(np.zeros((0, 64), np.float32), [], Settings())
    teach(task, digits, 1)
    assert learner.taught(name, task.support, task.settings).labels.tolist() == ["digit 0"]
    task.remove_class("digit 0")
    with pytest.raises(errors.TaskEmpty):
        learner.taught(name, task.support, task.settings)


def test_names_are_knowledge(learner: Learner, store: TaskStore, digits: Digits, name: str) -> None:
    task = store.create(name, **FACTS, labels=["digit 8"])
    names = {f"digit {one}": digits.X[digits.y == one][-1] for one in (8, 1, 0)}
    taught = learner.taught(name, task.support, task.settings, names)
    assert taught.labels.tolist() == ["digit 0", "digit 1", "digit 8"]
    assert taught.labels[taught.classify(names["digit 8"][np.newaxis]).probabilities.argmax()] == "digit 8"
    teach(task, digits, 33, classes=3)
    learner.taught(name, task.support, task.settings, names)
    learner.wait(name, SOON_S)
    taught = learner.taught(name, task.support, task.settings, {**names})
    check(taught, task.support, digits.X[1000:1050], "auto", names=names)
    assert not taught.calibrated
    assert learner.taught(name, task.support, task.settings).labels.tolist() == ["digit 0", "digit 1", "digit 2"]


def test_a_large_task_is_answered_by_the_head_of_almost_all_its_examples(
    learner: Learner, store: TaskStore, digits: Digits, name: str
) -> None:
    task = store.create(name, **FACTS, settings=Settings(method="class-mean"))
    teach(task, digits, 1500)
    queries = digits.X[1500:1600]
    taught = learner.taught(name, task.support, task.settings)
    assert taught.refining  # learnt from a part
    assert learner.wait(name, SOON_S)
    taught = learner.taught(name, task.support, task.settings)
    check(taught, task.support, queries, "class-mean")
    teach(task, digits, 1, first=1500)
    taught = learner.taught(name, task.support, task.settings)
    assert (taught.version, taught.learnt_from, taught.refining) == (3, 2, True)
    assert learner.wait(name, SOON_S)
    taught = learner.taught(name, task.support, task.settings)
    assert (taught.version, taught.learnt_from) == (3, 3)
    check(taught, task.support, queries, "class-mean")
    task.add(digits.X[:1], ["new"], fingerprint=FACTS["fingerprint"])
    assert "new" in learner.taught(name, task.support, task.settings).labels
    learner.forget(name)


def test_the_newest_of_each_class_are_taken_and_at_least_one() -> None:
    own = np.array([0] * 5000 + [1] * 3 + [2] * 700)
    labels = np.array(["a", "b", "c"])
    kept = Numbered.of(own, labels, ()).kept()
    assert len(kept) <= AT_ONCE
    np.testing.assert_array_equal(np.bincount(own[kept]), [498, 3, 498])
    assert kept[:498].tolist() == list(range(4502, 5000))
    own = np.random.default_rng(0).permutation(np.arange(9000) % 3000)
    kept = Numbered.of(own, np.arange(3000).astype(np.str_), ()).kept()
    np.testing.assert_array_equal(np.bincount(own[kept]), np.ones(3000))


def test_ten_thousand_labels(learner: Learner, store: TaskStore, name: str) -> None:
    task = store.create(name, **FACTS | {"dim": 8})
    X = np.random.default_rng(0).normal(size=(10_000, 8)).astype(np.float32)
    task.add(X, [f"label {i}" for i in range(10_000)], fingerprint=FACTS["fingerprint"])
    taught = learner.taught(name, task.support, task.settings)
    best = taught.classify(X[:20]).probabilities.argmax(axis=1)
    assert taught.labels[best].tolist() == [f"label {i}" for i in range(20)]
    assert not taught.calibrated
    learner.forget(name)


@pytest.mark.parametrize("method", ["auto", *METHODS])
@pytest.mark.parametrize("value", [0, 1])
def test_embeddings_that_are_all_alike_have_an_answer(learner: Learner, method: str, value: int) -> None:
    X = np.full((20, 8), value, np.float32)
    taught = learner.once(X, [f"c{i % 4}" for i in range(20)], Settings(method=method))
    found = taught.classify(np.concatenate([X[:2], np.eye(8, dtype=np.float32)]))
    assert taught.method == method or method == "auto"
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1)
    assert np.isfinite(found.scores).all()


@pytest.mark.parametrize("n", [12, 40])
def test_once_is_the_method_itself_and_nothing_is_kept(learner: Learner, digits: Digits, n: int) -> None:
    rows = np.flatnonzero(digits.y < 4)[:n]
    labels = [f"digit {one}" for one in digits.y[rows]]
    taught = learner.once(digits.X[rows], labels, Settings())
    direct = AdaptiveClassifier().fit(digits.X[rows], labels)
    found = taught.classify(digits.X[1000:1100])
    np.testing.assert_allclose(found.probabilities, direct.predict_proba(digits.X[1000:1100]), atol=TOLERANCE)
    assert (taught.version, taught.method, taught.reason) == (0, direct.chosen_, direct.reason_)


def test_every_answer_is_of_one_version_while_a_teacher_adds(
    learner: Learner, store: TaskStore, digits: Digits, name: str
) -> None:
    task = store.create(name, **FACTS)
    teach(task, digits, 20)
    done = threading.Event()
    wrong: list[str] = []

    def ask() -> None:
        while not done.is_set():
            support = task.support
            taught = learner.taught(name, support, task.settings)
            if taught.version != support.version or taught.labels.tolist() != sorted(set(support.y.tolist())):
                wrong.append(f"{support.version}: {taught}")
            if taught.classify(digits.X[:2]).probabilities.shape != (2, len(taught.labels)):
                wrong.append(f"{taught}")

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for i in range(30):
        task.add(digits.X[100 + i : 101 + i], [f"new {i % 7}"], fingerprint=FACTS["fingerprint"])
    done.set()
    for thread in threads:
        thread.join()
    assert not wrong
    learner.taught(name, task.support, task.settings)
    assert learner.wait(name, SOON_S)
    check(learner.taught(name, task.support, task.settings), task.support, digits.X[1000:1050], "auto")


def test_what_is_forgotten_is_learnt_anew(learner: Learner, store: TaskStore, digits: Digits, name: str) -> None:
    task = store.create(name, **FACTS)
    teach(task, digits, 30, classes=3)
    learner.taught(name, task.support, task.settings)
    learner.wait(name, SOON_S)
    learner.forget(name)
    assert learner.taught(name, task.support, task.settings).refining
    learner.wait(name, SOON_S)
    store.delete(name)  # and nobody says so: another task of that name, with examples of the same numbers
    other = store.create(name, **FACTS)
    rows = np.flatnonzero(digits.y < 3)[:30]
    labels = [f"digit {one}" for one in digits.y[rows]]
    other.add(digits.X[rows][::-1], labels, fingerprint=FACTS["fingerprint"])
    taught = learner.taught(name, other.support, other.settings)
    check(taught, other.support, digits.X[1000:1010], "class-mean")


def test_the_least_recently_used_are_forgotten(store: TaskStore, digits: Digits) -> None:
    task = store.create("pets", **FACTS)
    teach(task, digits, 4)  # of 4 classes: learnt at once
    with Learner(max_bytes=20_000) as learner:
        first = learner.taught("first", task.support, task.settings)
        for i in range(20):
            learner.taught(f"task {i}", task.support, task.settings)
            assert learner._n_bytes <= 20_000
        assert learner.taught("task 19", task.support, task.settings) is not first
        assert learner.taught("first", task.support, task.settings) is not first


def test_a_process_that_was_killed_is_replaced(learner: Learner, store: TaskStore, digits: Digits, name: str) -> None:
    labels = [f"digit {one}" for one in digits.y[:40]]
    learner.once(digits.X[:40], labels, Settings(method="ridge"))
    process, pid = learner._small._process, learner._small.pid
    assert process is not None
    process.send_signal(signal.SIGKILL)
    task = store.create(name, **FACTS)
    teach(task, digits, 30, classes=3)
    assert learner.taught(name, task.support, task.settings).refining
    assert learner.wait(name, SOON_S)
    check(learner.taught(name, task.support, task.settings), task.support, digits.X[:50], "auto")
    assert process.poll() == -signal.SIGKILL
    assert learner._small.pid not in (None, pid)


def test_a_task_that_kills_it_twice_keeps_its_class_means(store: TaskStore, digits: Digits) -> None:
    task = store.create("pets", **FACTS)
    teach(task, digits, 30, classes=3)
    with Learner() as learner:
        assert learner.taught("pets", task.support, task.settings).refining
        while not learner.wait("pets", 0.01):
            pid = learner._small.pid
            if pid:
                os.kill(pid, signal.SIGKILL)
        taught = learner.taught("pets", task.support, task.settings)
        assert (taught.method, taught.refining) == ("class-mean", False)
        assert "died 2 times" in taught.reason
        check(taught, task.support, digits.X[:50], "class-mean")


def test_a_closed_learner_answers_by_class_means(store: TaskStore, digits: Digits) -> None:
    task = store.create("pets", **FACTS)
    teach(task, digits, 30, classes=3)
    learner = Learner()
    assert learner.taught("pets", task.support, task.settings).refining
    learner.close()
    learner.close()
    for taught in (
        learner.taught("pets", task.support, task.settings),
        learner.taught("other", task.support, task.settings),
        learner.once(task.support.X, task.support.y.tolist(), Settings()),
    ):
        assert (taught.method, taught.refining) == ("class-mean", False)
        assert "closed" in taught.reason


# Without a guard, as people write scripts, and beside a module that is named like ours.
SCRIPT = """
import os, signal, threading, time
import numpy as np
from classifiers.learner import Learner
from classifiers.tasks import Settings
learner = Learner()
X = np.random.default_rng(0).normal(size=(1900, 64)).astype(np.float32)
labels = [f"c{i % 40}" for i in range(len(X))]
threading.Thread(target=learner.once, args=(X, labels, Settings()), daemon=True).start()
while learner._small.pid is None:
    time.sleep(0.01)
time.sleep(1)
print(learner._small.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_process_ends_with_its_parent_in_the_midst_of_learning(tmp_path: Path) -> None:
    (tmp_path / "classifiers.py").write_text("raise RuntimeError('not ours')")
    root = str(Path(__file__).parents[2])
    command = [sys.executable, "-P", "-c", SCRIPT]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": root})
    assert done.returncode == -signal.SIGKILL, done.stderr
    process = Path("/proc", done.stdout.strip())
    until = time.monotonic() + SOON_S
    while process.exists() and process.joinpath("stat").read_text().split()[2] != "Z":
        assert time.monotonic() < until
        time.sleep(0.05)
