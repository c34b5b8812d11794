"""32 threads add, remove and search one task: every answer is right for some version that existed."""

import random
import threading
import time
from pathlib import Path

import pytest

from classifiers.errors import ExampleNotFound, InvalidOption, VersionConflict
from classifiers.tasks import Task, TaskStore
from tests.classifiers.tasks import FACTS, add, check_nearest, check_rows, embeddings, held, label

N_THREADS = 32
N_WRITERS = 12


class Crowd:
    """Threads that change a task, and threads that search it; what they did and saw, by version."""

    def __init__(self, task: Task, seconds: float) -> None:
        self.task = task
        self.end = time.monotonic() + seconds
        self.done: dict[int, tuple[str, list[str]]] = {}
        self.seen: dict[int, dict[str, str]] = {}
        self.failures: list[BaseException] = []
        self.n_answers = 0

    def run(self) -> None:
        targets = [self.write] * N_WRITERS + [self.search] * (N_THREADS - N_WRITERS)
        threads = [threading.Thread(target=self.guard, args=(one, i)) for i, one in enumerate(targets)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not self.failures, self.failures[0]

    def guard(self, work: "type", seed: int) -> None:
        try:
            rng = random.Random(seed)  # noqa: S311  # no secret
            while time.monotonic() < self.end and not self.failures:
                work(rng)
        except BaseException as error:
            self.failures.append(error)

    def write(self, rng: random.Random) -> None:
        there = self.task.support.ids.tolist()
        some = rng.sample(there, min(len(there), rng.choice((1, 3, 20))))
        kind = rng.choice(["add", "add", "remove", "undo", "relabel"] if len(there) < 300 else ["remove"])
        if not some and kind in ("remove", "relabel"):  # makes no version
            return
        try:
            if kind == "add":
                some = [str(rng.randrange(10**12)) for _ in range(rng.choice((1, 5, 40)))]
                version = add(self.task, *map(int, some))
            elif kind == "remove":
                version = self.task.remove(some)
            elif kind == "relabel":
                version = self.task.relabel(dict.fromkeys(some, "other"), if_version=self.task.version)
            else:
                version = self.task.undo()
        except (ExampleNotFound, InvalidOption, VersionConflict):  # another was first
            return
        assert self.done.setdefault(version, (kind, some)) == (kind, some), "two changes of one version"

    def search(self, rng: random.Random) -> None:
        support = check_nearest(self.task, embeddings([rng.randrange(1000) for _ in range(2)]), rng.choice((1, 5, 400)))
        check_rows(support)
        seen = held(support)
        assert self.seen.setdefault(support.version, seen) == seen
        self.n_answers += 1

    def replay(self) -> None:
        """Do on a dict what was done, version by version, and compare what was seen of each."""
        labels: dict[str, str] = {}
        past: list[dict[str, str]] = []
        assert sorted(self.done) == list(range(2, 2 + len(self.done)))
        for version in range(1, 2 + len(self.done)):
            kind, some = self.done.get(version, ("create", []))
            if kind == "undo":
                labels = past.pop()
            elif kind != "create":
                past.append(dict(labels))
                labels |= {one: label(int(one)) for one in some} if kind == "add" else {}
                labels |= dict.fromkeys(some, "other") if kind == "relabel" else {}
                labels = labels if kind != "remove" else {one: labels[one] for one in labels if one not in some}
            assert self.seen.get(version, labels) == labels
        assert held(self.task.support) == labels


def crowd(folder: Path, seconds: float) -> None:
    with TaskStore.open(folder) as store:
        task = store.create("pets", **FACTS)
        threads = Crowd(task, seconds)
        threads.run()
        threads.replay()
        assert threads.done  # how many, only the disk knows
        assert threads.seen
        last = held(task.support)
    with TaskStore.open(folder) as store:
        assert held(store.task("pets").support) == last


def test_answers_are_right_for_a_version_while_it_changes(tmp_path: Path) -> None:
    crowd(tmp_path, 2)


@pytest.mark.stress
def test_answers_are_right_for_a_version_through_a_minute(tmp_path: Path) -> None:
    crowd(tmp_path, 60)
