"""A task's examples -> what classifies by them, in milliseconds, and a better one as soon as it is learnt aside."""

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from queue import SimpleQueue
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from classifiers.adaptive import AUTO, CLASS_MEAN
from classifiers.background import CLOSED, Background, Order
from classifiers.errors import TaskEmpty
from classifiers.learnt import Examples, Learnt, Numbered, learn
from classifiers.tasks.settings import Settings
from classifiers.tasks.support import Support

MAX_BYTES = 1 << 30
LEAST_BYTES = 4096  # of a task, for all that is no array
INLINE = 4  # examples that any method learns from in about 3 ms
INLINE_ONCE = 16  # in about 30 ms, which is less than another process takes to be asked
SMALL = 2000  # examples; tasks with more have a process of their own
GROWTH = 1000  # a head serves on where there is at most one more example to so many

Names = Mapping[str, NDArray[np.float32]]


class Classified(NamedTuple):
    """Probabilities (n, n_classes), float64, and scores (n,), float64: what scores below the threshold is unknown."""

    probabilities: NDArray[np.float64]
    scores: NDArray[np.float64]


@dataclass(frozen=True, eq=False, kw_only=True)
class Taught:
    """What a support has taught, at one version.

    Parameters
    ----------
    version : int
        Of the support.
    learnt_from : int
        Version of the support that it was learnt from: the same, or, in a large task, one that almost is.
    refining : bool
        Whether a better one is being learnt.
    reason : str
        Why this method, in words.
    threshold : float, optional
        What scores below it is unknown; None: nothing is.
    """

    version: int
    learnt_from: int
    refining: bool
    reason: str
    threshold: float | None
    learnt: Learnt = field(repr=False)

    @property
    def method(self) -> str:
        """Which classifies."""
        return self.learnt.method

    @property
    def calibrated(self) -> bool:
        """Whether every class has the examples that a threshold needs; if not, it is a stated prior."""
        return self.learnt.calibrated

    @property
    def labels(self) -> NDArray[np.str_]:
        """Labels (n_classes,), sorted."""
        return self.learnt.labels

    def classify(self, X: NDArray[np.float32]) -> Classified:
        """Return what is known of X (n, dim) float32, whose values must be finite and of the task's dim."""
        scores = self.learnt.scores(X)
        return Classified(self.learnt.probabilities(scores), scores.max(axis=1))

    def threshold_at(self, false_alarm_rate: float) -> float | None:
        """Return the threshold of another share of false alarms; None: nothing is unknown."""
        return self.learnt.threshold_at(false_alarm_rate)


@dataclass(frozen=True, eq=False)
class _Question:
    """What is to be learnt from: a support, and how."""

    support: Support
    settings: Settings
    names: Names

    def equals(self, other: "_Question") -> bool:
        return self.support is other.support and self.settings == other.settings and _same(self.names, other.names)

    def suits(self, head: "_Question") -> bool:
        """Whether what was learnt from another one serves here: it knows the same classes, and almost all examples."""
        if self.settings.method != head.settings.method or not _same(self.names, head.names):
            return False
        return self.support is head.support or _grown(self.support, head.support)

    def numbered(self) -> Numbered:
        """Return the examples by their positions in the labels of those classes that have any, or a name."""
        support = self.support
        there = np.flatnonzero(np.bincount(support.classes)) if len(support) else support.classes
        labels = np.array([support.labels[one] for one in there.tolist()], np.str_)
        order = np.argsort(labels)
        position = np.zeros(int(there[-1]) + 1 if len(there) else 0, np.int64)
        position[there[order]] = np.arange(len(order))
        return Numbered.of(position[support.classes], labels[order], self.names)

    def examples(self) -> Examples:
        """Return all that there is to learn from."""
        return self.numbered().examples(self.support.X, self.names)


class _Task:
    """What is known of a task."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.now: tuple[_Question, Taught] | None = None
        self.head: tuple[_Question, Learnt] | None = None  # the best that was learnt aside, of this version or another
        self.n_bytes = 0

    def count(self) -> int:
        """Return the bytes of the arrays that are kept here and nowhere else."""
        there = [one for one in (self.now and self.now[1].learnt, self.head and self.head[1]) if one is not None]
        names = self.now[0].names if self.now else {}
        return _nbytes([names, *{id(one): one.over(None) for one in there}.values()])


class Learner:
    """What tasks have taught, by their names. Any number of threads may ask; a context manager.

    An answer is there at once, by class means. Where another method is better, it is learnt by another process, and
    taken as soon as it is there: one process for tasks of up to 2,000 examples and, once there are any, one for larger
    ones, which take longer, so that these hold up no small task. Within each, tasks take turns.

    While it is there, linear algebra in this process takes one thread: on busy cores threads that wait for each other
    make class means three times slower to learn.

    Parameters
    ----------
    max_bytes : int
        Of what is kept; the tasks that were least recently asked for are forgotten, and learnt anew when they are.
    """

    def __init__(self, *, max_bytes: int = MAX_BYTES) -> None:
        self.max_bytes = max_bytes
        self._changed = threading.Condition()
        self._tasks: OrderedDict[str, _Task] = OrderedDict()
        self._n_bytes = 0
        self._small, self._large = Background(), Background()
        self._one_thread = threadpool_limits(1, user_api="blas")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def taught(self, name: str, support: Support, settings: Settings, names: Names | None = None) -> Taught:
        """Return what a support teaches, in milliseconds; the better answer comes with a later call.

        Parameters
        ----------
        name : str
            Of the task.
        support : Support
        settings : Settings
        names : mapping of str to ndarray of shape (dim,), optional
            The vector of each class's name, where names are knowledge.

        Raises
        ------
        TaskEmpty
            There is nothing to go by.
        """
        question = _Question(support, settings, names or {})
        with self._changed:
            task = self._tasks.setdefault(name, _Task())
            self._tasks.move_to_end(name)
        now = task.now
        if now is not None and now[0].equals(question):
            return now[1]
        with task.lock:  # one learns, the others wait: it is milliseconds
            if task.now is None or not task.now[0].equals(question):
                task.now = None
                self._drop(name)
                task.now = (question, self._teach(name, task, question))
                self._count(name, task)
            return task.now[1]

    def once(
        self, X: NDArray[np.float32], labels: Sequence[str], settings: Settings, names: Names | None = None
    ) -> Taught:
        """Return what examples X (n, dim) with their labels teach by the settings' method, and remember nothing.

        It takes as long as that method; in another process, unless there are few examples.

        Raises
        ------
        TaskEmpty
        """
        if not len(X) and not names:
            raise TaskEmpty("there are no examples to learn from; send one of each class or more")
        found, own = np.unique(np.array(labels, np.str_), return_inverse=True)
        numbered = Numbered.of(own, found, names or {})
        examples = numbered.examples(np.ascontiguousarray(X, np.float32), names or {})
        method = numbered.suited(settings.method)
        if numbered.is_by_means(method) or len(examples.X) <= INLINE_ONCE:
            return _taught(0, 0, learn(examples, method), settings)
        told: SimpleQueue[Learnt | str] = SimpleQueue()
        order = Order(lambda: examples, method, told.put)
        result = told.get() if self._line(len(X)).put(object(), order, awaited=True) else CLOSED
        if isinstance(result, Learnt):
            return _taught(0, 0, result, settings)
        return replace(_taught(0, 0, learn(examples, CLASS_MEAN), settings), reason=_in_place_of(method, result))

    def wait(self, name: str, timeout_s: float) -> bool:
        """Wait until nothing is being refined for a task; False, where it still is."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._is_refining(name), timeout_s)

    def forget(self, name: str) -> None:
        """Forget what a task has taught: it was deleted."""
        with self._changed:
            self._forget(name)
            self._changed.notify_all()

    def close(self) -> None:
        """End what is being learnt; from now on there are answers by class means alone."""
        self._small.close()
        self._large.close()
        self._one_thread.restore_original_limits()

    def _teach(self, name: str, task: _Task, question: _Question) -> Taught:
        support, settings = question.support, question.settings
        if task.head is not None and question.suits(task.head[0]):
            return self._by_head(name, task, task.head, question)
        if not len(support) and not question.names:
            raise TaskEmpty(f"task {name!r} has no examples to go by yet; add one of each class or more")
        numbered = question.numbered()
        method = numbered.suited(settings.method)
        n, kept = len(support), numbered.kept()
        sample = replace(numbered, own=numbered.own[kept]).examples(support.rows(kept), question.names)
        final = (numbered.is_by_means(method) and len(kept) == n) or len(sample.X) <= INLINE
        learnt = learn(sample, method if final else CLASS_MEAN)
        taught = _taught(support.version, support.version, learnt, settings)
        if final:
            return taught
        if not self._refine(name, task, question, method):
            return replace(taught, reason=_in_place_of(method, CLOSED))
        why = f"class means are there at once; {_named(method)} is being learnt from {n:,} examples"
        return replace(taught, refining=True, reason=why)

    def _by_head(self, name: str, task: _Task, head: tuple[_Question, Learnt], question: _Question) -> Taught:
        """Answer by what was learnt from these examples, or from almost these."""
        support, (of, learnt) = question.support, head
        same = len(support) == len(of.support)
        learnt_from = support.version if same else of.support.version
        taught = _taught(support.version, learnt_from, learnt, question.settings)
        refining = not same and self._refine(name, task, question, question.settings.method)
        return replace(taught, refining=refining)

    def _refine(self, name: str, task: _Task, question: _Question, method: str) -> bool:
        """Have a better one learnt; False, where all is closed."""
        order = Order(question.examples, method, lambda told: self._refined(name, task, question, method, told))
        return self._line(len(question.support)).put(name, order)

    def _refined(self, name: str, task: _Task, question: _Question, method: str, told: Learnt | str) -> None:
        """Take what was learnt aside, where it still serves."""
        with task.lock:
            if task.now is None:
                return
            now, taught = task.now
            if isinstance(told, str):
                if now.equals(question):
                    by_head = task.head is not None and task.head[1] is taught.learnt
                    why = taught.reason if by_head else _in_place_of(method, told)
                    task.now = (now, replace(taught, refining=False, reason=why))
            elif now.suits(question):
                task.head = (question, told)
                of, settings = now.support, now.settings
                same = len(of) == len(question.support)
                learnt_from = of.version if same else question.support.version
                taught = _taught(of.version, learnt_from, told, settings)
                task.now = (now, replace(taught, refining=not same))
            self._count(name, task)

    def _line(self, n: int) -> Background:
        return self._small if n <= SMALL else self._large

    def _is_refining(self, name: str) -> bool:
        task = self._tasks.get(name)
        return task is not None and task.now is not None and task.now[1].refining

    def _count(self, name: str, task: _Task) -> None:
        """Count what a task takes, and forget others where all take too much."""
        n_bytes = LEAST_BYTES + task.count()
        with self._changed:
            self._changed.notify_all()
            if self._tasks.get(name) is not task:
                return
            self._n_bytes += n_bytes - task.n_bytes
            task.n_bytes = n_bytes
            while self._n_bytes > self.max_bytes and len(self._tasks) > 1:
                self._forget(next(iter(self._tasks)))

    def _forget(self, name: str) -> None:
        task = self._tasks.pop(name, None)
        if task is not None:
            self._n_bytes -= task.n_bytes
        self._drop(name)

    def _drop(self, name: str) -> None:
        """Forget what is not being learnt yet."""
        for line in (self._small, self._large):
            line.drop(name)


def _taught(version: int, learnt_from: int, learnt: Learnt, settings: Settings) -> Taught:
    return Taught(
        version=version,
        learnt_from=learnt_from,
        refining=False,
        reason=learnt.reason,
        threshold=learnt.threshold_at(settings.false_alarm_rate),
        learnt=learnt,
    )


def _in_place_of(method: str, why: str) -> str:
    return f"by class means, for {_named(method)} could not be learnt: {why}"


def _named(method: str) -> str:
    return "the method that suits them" if method == AUTO else method


def _grown(support: Support, before: Support) -> bool:
    """Whether a support is an earlier one and at most a thousandth more, all of classes that had examples already."""
    n = len(before)
    if support.lineage is not before.lineage or not n <= len(support) <= n + n // GROWTH:
        return False
    columns = ((support.numbers, before.numbers), (support.classes, before.classes))
    if not all(np.array_equal(one[:n], other) for one, other in columns):
        return False
    known = np.flatnonzero(np.bincount(before.classes)).tolist() if n else []
    return set(support.classes[n:].tolist()) <= set(known) and all(
        support.labels[one] == before.labels[one] for one in known
    )


def _same(names: Names, others: Names) -> bool:
    return names is others or (
        names.keys() == others.keys()
        and all(one is others[label] or np.array_equal(one, others[label]) for label, one in names.items())
    )


def _nbytes(thing: Any) -> int:
    """Return the bytes of the arrays in a thing."""
    if isinstance(thing, np.ndarray):
        return thing.nbytes
    if isinstance(thing, Mapping):
        return sum(map(_nbytes, thing.values()))
    if isinstance(thing, (list, tuple)):
        return sum(map(_nbytes, thing))
    return sum(map(_nbytes, vars(thing).values())) if hasattr(thing, "__dict__") else 0
