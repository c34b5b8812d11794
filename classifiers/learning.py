"""Examples -> what they teach, in a process of its own, which answers one request after the other.

`python -m classifiers.learning`. On its standard input come requests, on its standard output go answers, both as
frames; these are pickles, for both ends are ours, and nobody else has the pipes. It ends with whoever started it: when
its standard input closes, also in the midst of learning. It gives way to others (nice 10, not SCHED_IDLE: beside a busy
server it would never be done), and where memory is short, it goes first.
"""

import os
import pickle
import sys
import warnings
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from classifiers.learnt import Examples, Learnt, learn

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "LOKY_MAX_CPU_COUNT"), "1")
NICE = 10
MESSAGE_LENGTH = 500


def command() -> list[str]:
    """Return the command of such a process; its modules are found whatever the working folder holds."""
    return [sys.executable, "-P", "-W", "ignore", "-m", "classifiers.learning"]


def environment() -> dict[str, str]:
    """Return its environment: that of this process, with one thread for linear algebra."""
    root = str(Path(__file__).parents[1])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, **ONE_THREAD, "PYTHONPATH": os.pathsep.join(paths)}


def ask(pipe: IO[bytes], examples: Examples, method: str) -> None:
    """Write a request. Embeddings go as they are: pickling many would hold up all threads of a server."""
    X = np.ascontiguousarray(examples.X)
    _write(pipe, (replace(examples, X=X[:0]), X.shape, method))
    pipe.write(_bytes(X))
    pipe.flush()


def answer(pipe: IO[bytes]) -> Learnt | str:
    """Read what a request has brought, or why nothing; raises EOFError where the process has ended."""
    found: Learnt | str = _read(pipe)
    return found


def main() -> None:
    """Answer until nobody asks."""
    _give_way()
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints goes to the log
    waiting: SimpleQueue[tuple[Examples, str]] = SimpleQueue()
    Thread(target=_listen, args=(requests, waiting), daemon=True).start()
    warnings.simplefilter("ignore")
    while True:
        try:
            told: Learnt | str = learn(*waiting.get()).over(None)
        except MemoryError:
            told = "there was not enough memory"
        except Exception as error:
            told = f"{type(error).__name__}: {error}"[:MESSAGE_LENGTH]
        _write(answers, told)
        answers.flush()


def _listen(pipe: IO[bytes], waiting: "SimpleQueue[tuple[Examples, str]]") -> None:
    """Pass requests on, and end the process when their pipe closes."""
    try:
        while True:
            examples, shape, method = _read(pipe)
            X = np.empty(shape, np.float32)
            _fill(pipe, _bytes(X))
            waiting.put((replace(examples, X=X), method))
    except EOFError:
        os._exit(0)


def _write(pipe: IO[bytes], what: Any) -> None:
    content = pickle.dumps(what, protocol=5)
    pipe.write(len(content).to_bytes(8, "little") + content)


def _read(pipe: IO[bytes]) -> Any:
    head = bytearray(8)
    _fill(pipe, memoryview(head))
    content = bytearray(int.from_bytes(head, "little"))
    _fill(pipe, memoryview(content))
    return pickle.loads(content)  # noqa: S301  # of our own process


def _fill(pipe: IO[bytes], room: memoryview) -> None:
    while room:
        n = pipe.readinto(room)  # type: ignore[attr-defined]
        if not n:
            raise EOFError("the other end of the pipe is closed")
        room = room[n:]


def _bytes(X: NDArray[np.float32]) -> memoryview:
    return X.data.cast("B") if X.size else memoryview(bytearray())


def _give_way() -> None:
    with suppress(OSError):
        os.nice(NICE)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


if __name__ == "__main__":
    main()
