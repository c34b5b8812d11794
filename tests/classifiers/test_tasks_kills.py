"""SIGKILL at random moments while tasks change: what was answered is there, what was not is whole or absent."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from classifiers.tasks import TaskStore
from tests.classifiers.tasks import FACTS, check_nearest, check_rows, embeddings, held, label

SEED = 6
MAX_LIFE_S = 0.25

# Forks a process for each line that it reads, says its number, and when it is gone. The process writes down what it
# is about to do, and what it was answered.
NURSERY = """
import json, os, random, sys, traceback
from classifiers.tasks import TaskStore
from tests.classifiers.tasks import FACTS, add, label

def work(seed):
    rng = random.Random(seed)
    log = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    say = lambda *what: os.write(log, json.dumps(what).encode() + b"\\n")
    store = TaskStore.open(sys.argv[1])
    task = store.task("pets")
    while True:
        there = task.support.ids.tolist()
        kind = rng.choice(["add", "add", "add", "remove", "relabel", "undo", "create", "delete"])
        some = rng.sample(there, min(len(there), rng.choice((1, 5, 40))))
        if kind == "add":
            numbers = rng.sample(range(100_000), rng.choice((1, 10, 200)))
            numbers = [one for one in numbers if str(one) not in there] or [100_000 + rng.getrandbits(40)]
            say("add", [str(one) for one in numbers])
            say(add(task, *numbers))
        elif kind == "remove" and some:
            say("remove", some)
            say(task.remove(some))
        elif kind == "relabel" and some:
            say("relabel", some)
            say(task.relabel(dict.fromkeys(some, "other")))
        elif kind == "undo" and any(one.can_be_undone for one in task.history()):
            say("undo")
            say(task.undo())
        elif kind == "create":
            name = f"task-{rng.getrandbits(40)}"
            say("create", name)
            store.create(name, **FACTS, labels=["a", "b"])
            say(0)
        elif kind == "delete":
            names = [name for name in store.names() if name != "pets"]
            if names:
                say("delete", names[0])
                store.delete(names[0])
                say(0)

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        try:
            work(int(line))
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@contextmanager
def nursery(folder: Path, log: Path) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-c", NURSERY, str(folder), str(log)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def live_and_die(process: "subprocess.Popen[str]", seed: int, life_s: float) -> None:
    """Have a writer born, and kill it in the middle of its work."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{seed}\n")
    process.stdin.flush()
    child = int(process.stdout.readline())
    time.sleep(life_s)
    os.kill(child, signal.SIGKILL)
    assert int(process.stdout.readline()) == -signal.SIGKILL, "it had ended by itself"


class Expected:
    """What must be on disk, by what the writers said."""

    def __init__(self) -> None:
        self.version, self.labels, self.names = 1, dict[str, str](), {"pets"}
        self.past: list[dict[str, str]] = []

    def apply(self, kind: str, what: Any = None) -> None:
        if kind in ("create", "delete"):
            self.names ^= {what}
            return
        self.version += 1
        if kind == "undo":
            self.labels = self.past.pop()
            return
        self.past.append(dict(self.labels))
        if kind == "add":
            self.labels |= {one: label(int(one)) for one in what if one not in self.labels}
        elif kind == "relabel":
            self.labels |= dict.fromkeys(what, "other")
        else:
            self.labels = {one: own for one, own in self.labels.items() if one not in what}


def read(log: Path) -> tuple[list[Any], Any]:
    """Return what was done and its answer, and what was begun and not answered."""
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    done = list(zip(lines[::2], lines[1::2], strict=False))
    return done, lines[-1] if len(lines) % 2 else None


def judge(folder: Path, log: Path, expected: Expected) -> int:
    """Open the store as the kill has left it; return how many changes were answered in that life."""
    done, begun = read(log)
    for one, (answer,) in done:
        expected.apply(*one)
        assert answer in (0, expected.version), one
    with TaskStore.open(folder) as store:
        task, names = store.task("pets"), set(store.names())
        if begun and (task.version == expected.version + 1 or names == expected.names ^ {str(begun[-1])}):
            expected.apply(*begun)
        assert names == expected.names
        assert task.version == expected.version
        assert held(task.support) == expected.labels
        check_rows(task.support)
        check_nearest(task, embeddings(range(3)))
        for name in sorted(names - {"pets"})[:3]:
            assert list(store.task(name).support.labels.values()) == ["a", "b"]
    assert not list(folder.glob(".new-*"))
    log.unlink(missing_ok=True)
    return len(done)


def kill(tmp_path: Path, times: int) -> None:
    """Kill one writer after the other."""
    rng = random.Random(SEED)  # noqa: S311  # no secret
    folder, log, expected = tmp_path / "tasks", tmp_path / "log", Expected()
    with TaskStore.open(folder) as store:
        store.create("pets", **FACTS)
    n_done = 0
    with nursery(folder, log) as process:
        for seed in range(times):
            live_and_die(process, seed, rng.uniform(0.02, MAX_LIFE_S))
            n_done += judge(folder, log, expected)
    assert n_done > times  # they were killed at work
    assert expected.labels


def test_six_kills_lose_nothing_that_was_answered(tmp_path: Path) -> None:
    kill(tmp_path, 6)


@pytest.mark.stress
def test_a_hundred_kills_lose_nothing_that_was_answered(tmp_path: Path) -> None:
    kill(tmp_path, 100)
