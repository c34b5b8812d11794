"""What a training job is to do: an order and its examples <-> files in a folder of the job's own.

`order.json`; and, where the examples are not those of a dump, `X.f32`, rows of float32, with `examples.jsonl`,
`[target, key]` a line.
"""

import importlib.metadata
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from classifiers.errors import InvalidOption
from extractor.errors import RuntimeMissing

if TYPE_CHECKING:
    from headwater.training import Options

ORDER_FILE, MATRIX_FILE, EXAMPLES_FILE, LOG_FILE = "order.json", "X.f32", "examples.jsonl", "log"
HEAD_FOLDER = "head"
ONE_THREAD = {
    name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "LOKY_MAX_CPU_COUNT")
}
NEEDED = "scikit-learn"
SINGLE = "single"
KINDS = (SINGLE, "multi", "regression")
MAX_LABEL_LENGTH = 200

Target = str | list[str] | list[float]


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a job is to train.

    Parameters
    ----------
    name : str
        Of the head.
    backbone, fingerprint : str
        Of the embeddings.
    dim : int
        Their length.
    kind : str
        `single`, `multi` or `regression`.
    options : dict
        Fields of `headwater.training.Options`; what is left out is as it is there.
    activate : bool
        Whether the name alone shall mean the new version.
    dump : str
        Path of the dump that holds the examples; "" where they are in the folder.
    """

    name: str
    backbone: str
    fingerprint: str
    dim: int
    kind: str = SINGLE
    options: dict[str, Any] = field(default_factory=dict)
    activate: bool = True
    dump: str = ""

    def check(self) -> None:
        """Raise InvalidOption for an option that training has not here, RuntimeMissing where there is no training."""
        check_installed()
        from headwater.training import Options

        known = {one.name for one in fields(Options)}
        for name in self.options:
            if name not in known:
                raise InvalidOption(
                    f"{name} is {self.options[name]!r}, and there is no such option of training; there are: "
                    f"{', '.join(sorted(known))}"
                )
        self.chosen().check()

    def chosen(self) -> "Options":
        """Return how the head is to be trained."""
        from headwater.training import Options

        return Options(**{**self.options, "kind": self.kind, "class_weight": self.options.get("class_weight") or None})

    def write(self, folder: Path) -> None:
        """Put the order into a job's folder; raises OSError."""
        (folder / ORDER_FILE).write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, folder: Path) -> "Order":
        """Return the order of a job's folder."""
        return cls(**json.loads((folder / ORDER_FILE).read_bytes()))


class ExampleFiles:
    """Examples while they come in, kept in a job's folder and not in memory.

    Parameters
    ----------
    folder : Path
        Exists; the files are made with the first examples.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, X: NDArray[np.float32], targets: Sequence[Target], keys: Sequence[str]) -> int:
        """Append embeddings X (n, dim), n targets, and the keys of their items, where they have any.

        Returns the bytes that targets and keys take; raises OSError.
        """
        with (self._folder / MATRIX_FILE).open("ab") as matrix:
            matrix.write(np.ascontiguousarray(X, "<f4").data)
        with (self._folder / EXAMPLES_FILE).open("a") as file:
            return sum(
                file.write(json.dumps([target, keys[i] if keys else ""]) + "\n") for i, target in enumerate(targets)
            )

    def read(self, dim: int) -> tuple[NDArray[np.float32], list[Any], list[str]]:
        """Return embeddings (n, dim), targets (n,) and keys, as many as there are."""
        if not (self._folder / MATRIX_FILE).exists():
            return np.zeros((0, dim), np.float32), [], []
        X = np.fromfile(self._folder / MATRIX_FILE, "<f4").reshape(-1, dim)
        targets, keys = zip(*_lines(self._folder / EXAMPLES_FILE), strict=True)
        return X.astype(np.float32, copy=False), list(targets), [key for key in keys if key]


def check_installed() -> None:
    """Raise RuntimeMissing where heads can be neither trained nor loaded; loads nothing."""
    try:
        _version_of(NEEDED)
    except importlib.metadata.PackageNotFoundError:
        raise RuntimeMissing(
            f"heads need {NEEDED}, which is not installed beside the server: pip install 'headwater[classifiers]'"
        ) from None


@cache
def _version_of(package: str) -> str:
    """Return the version of a package; looked for once, for that reads the disk."""
    return importlib.metadata.version(package)


def command(folder: Path) -> list[str]:
    """Return the command that runs a job; its module is found whatever the working folder holds."""
    return [sys.executable, "-P", "-m", "headwater.job", str(folder)]


def environment() -> dict[str, str]:
    """Return the environment of a job: the server's, with one thread."""
    root = str(Path(__file__).parents[1])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, **ONE_THREAD, "PYTHONPATH": os.pathsep.join(paths)}


def _lines(path: Path) -> Iterator[Any]:
    with path.open() as file:
        yield from map(json.loads, file)
