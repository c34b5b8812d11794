"""A training job in a process of its own: a folder with an order and its examples -> a head in the same folder.

`python -m headwater.job FOLDER`. On its standard output it tells how far it is, an object a line; the last has `done`
or `error`. It ends with whoever started it: when its standard input closes. It gives way to all others (SCHED_IDLE,
nice 19) and its environment gives it one thread, so that a server beside it stays as quick as it was.
"""

import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from classifiers.errors import ClassifierError, InvalidLabels
from extractor.errors import BackboneChanged, ExtractorError
from headwater import dumps, shelf
from headwater.errors import DumpInvalid, HeadsNotWritable, HeadwaterError, JobFailed
from headwater.examples import Examples
from headwater.labelled import REGRESSION, Label
from headwater.order import HEAD_FOLDER, MAX_LABEL_LENGTH, ExampleFiles, Order, Target
from headwater.training import Origin, train_head

MESSAGE_LENGTH = 2000  # of an error


def main(folder: Path) -> None:
    """Run the job of a folder."""
    _give_way()
    _end_with_parent()
    channel = _own_channel()
    try:
        _tell(channel, {"done": _train(folder, channel)})
    except (ClassifierError, ExtractorError, HeadwaterError) as error:
        _tell(channel, {"error": [type(error).__name__, str(error)[:MESSAGE_LENGTH]]})
    except OSError as error:
        _tell(channel, {"error": [HeadsNotWritable.__name__, str(shelf.not_writable(error))]})
        raise
    except MemoryError:
        why = "there is not enough memory to train on so much; send a sample, or choose another head"
        _tell(channel, {"error": [JobFailed.__name__, why]})
        raise
    except Exception as error:
        _tell(channel, {"error": [JobFailed.__name__, f"{type(error).__name__}: {error}"[:MESSAGE_LENGTH]]})
        raise


def _train(folder: Path, channel: TextIO) -> dict[str, float]:
    """Train, and return what was measured."""
    order = Order.read(folder)
    X, targets, keys = _dumped(order) if order.dump else ExampleFiles(folder).read(order.dim)
    if X.shape[1] != order.dim:
        raise DumpInvalid(f"the dump has embeddings of length {X.shape[1]}, and the backbone {order.dim}")
    manifest = train_head(
        folder / HEAD_FOLDER,
        Examples(X, [_label(target, order.kind) for target in targets]),
        Origin(backbone=order.backbone, fingerprint=order.fingerprint, items=keys),
        order.chosen(),
        progress=lambda done, total, step: _tell(channel, {"progress": [done, total, step]}),
    )
    return {name: float(value) for name, value in manifest.metrics.items()}


def _dumped(order: Order) -> tuple[NDArray[np.float32], list[str], list[str]]:
    """Read a dump, which may have been written anew since it was ordered."""
    path = Path(order.dump)
    if (of := dumps.facts(path).fingerprint) != order.fingerprint:
        raise BackboneChanged(
            f"the dump {path.name!r} is of {of[:100]!r} now, and was of {order.fingerprint}; order anew"
        )
    X, labels, keys = dumps.read(path)
    for row, label in enumerate(labels):
        if not 0 < len(label) <= MAX_LABEL_LENGTH:
            raise DumpInvalid(
                f"the label of row {row:,} has {len(label):,} characters; it may have 1 to {MAX_LABEL_LENGTH}"
            )
    return X, labels, keys


def _label(target: Target, kind: str) -> Label:
    """Return what training takes: a label, a tuple of them, or a number."""
    if isinstance(target, str):
        return target
    if kind != REGRESSION:
        return tuple(map(str, target))
    if len(target) != 1:
        raise InvalidLabels(f"an example has {len(target)} numbers, and a regression learns one; send one of each")
    return float(target[0])


def _give_way() -> None:
    with suppress(OSError):
        os.nice(19)
    if hasattr(os, "SCHED_IDLE"):
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")  # where memory is short, this goes first, not the server


def _end_with_parent() -> None:
    """End, with all that this process has started, once nobody holds the other end of the standard input."""

    def wait() -> None:
        while os.read(0, 1024):
            pass
        os.killpg(0, signal.SIGKILL)

    Thread(target=wait, name="parent", daemon=True).start()


def _own_channel() -> TextIO:
    """Return the standard output, and have whatever a library prints go to the log."""
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return channel


def _tell(channel: TextIO, what: dict[str, Any]) -> None:
    channel.write(json.dumps(what) + "\n")
    channel.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
