"""Embeddings X (n, dim) with row numbers -> an exact FAISS index in a file, its facts beside it; and nearest rows."""

import json
import os
import secrets
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import faiss
import numpy as np
from numpy.typing import ArrayLike, NDArray

from classifiers.embeddings import check_finite, unit_length
from classifiers.errors import EmbeddingMismatch, IndexUnreadable, InvalidOption

INDEX, FACTS = "index.faiss", "index.json"
FORMAT = 1
BLOCK_ROWS = 8192
DIGESTED_ROWS = 1000  # that tell one set from another
LARGE_ROWS = 1_000_000  # above it a caller is told what to expect


@dataclass(frozen=True)
class IndexFacts:
    """What an index is of, as `index.json` has it.

    Parameters
    ----------
    fingerprint, backbone : str
    dim, n_rows : int
    digest : str
        Of the row numbers and of embeddings, all or 1,000 to 2,000 of them: whether it is of what is there now.
    metric : str
        Inner product of unit vectors: the cosine.
    ids : str
    format : int
    """

    fingerprint: str
    backbone: str
    dim: int
    n_rows: int
    digest: str
    metric: str = "inner product of unit vectors (cosine)"
    ids: str = "row numbers of the dump, from 0"
    format: int = FORMAT


class Nearest(NamedTuple):
    """The nearest rows of each query, the nearest first: positions (n_queries, k) int64, cosines float64."""

    rows: NDArray[np.int64]
    cosines: NDArray[np.float64]


def nearest(X: ArrayLike, queries: ArrayLike, k: int = 10) -> Nearest:
    """Return the k nearest rows of X by cosine, by comparing all, block by block; of equal ones the first rows.

    Parameters
    ----------
    X : array-like of shape (n, dim), float
        May be a map of a file.
    queries : array-like of shape (n_queries, dim), float
    k : int
        At least 1; fewer are returned where there are fewer rows.

    Raises
    ------
    EmbeddingMismatch
        Queries of another length.
    InvalidOption
        k is below 1.
    NotFinite
        NaN or infinity.
    """
    embeddings, asked = np.asanyarray(X), np.asarray(queries)
    _check(embeddings.shape[1], asked, k)
    unit = unit_length(asked.astype(np.float64))
    best, places = np.full((len(asked), 0), 0.0), np.full((len(asked), 0), 0)
    for start in range(0, len(embeddings), BLOCK_ROWS):
        block = np.asarray(embeddings[start : start + BLOCK_ROWS])
        check_finite(block)
        cosines = unit @ unit_length(block).astype(np.float64).T
        own = np.broadcast_to(np.arange(start, start + len(block)), cosines.shape)
        best, places = _first_k(np.concatenate([best, cosines], 1), np.concatenate([places, own], 1), k)
    return Nearest(places, np.clip(best, -1, 1))


def write_index(folder: Path, X: ArrayLike, numbers: ArrayLike, *, fingerprint: str, backbone: str = "") -> IndexFacts:
    """Write `index.faiss`, an IndexIDMap2 of an IndexFlatIP on unit vectors, and `index.json`, into a folder.

    Both are written under temporary names and renamed, the facts last, so that an index without its own facts is
    told from one with them.

    Parameters
    ----------
    folder : Path
    X : array-like of shape (n, dim), float
    numbers : array-like of shape (n,), int
        What the index calls the rows.
    fingerprint, backbone : str

    Raises
    ------
    NotFinite
        NaN or infinity in X.
    OSError
        The folder cannot be written.
    """
    embeddings, ids = np.asanyarray(X), np.asarray(numbers, np.int64)
    index = faiss.IndexIDMap2(faiss.IndexFlatIP(embeddings.shape[1]))
    for start in range(0, len(embeddings), BLOCK_ROWS):
        block = np.asarray(embeddings[start : start + BLOCK_ROWS], np.float32)
        check_finite(block)
        index.add_with_ids(unit_length(block), ids[start : start + BLOCK_ROWS])
    facts = IndexFacts(fingerprint, backbone, embeddings.shape[1], len(ids), _digest(embeddings, ids))
    data = json.dumps(asdict(facts), indent=1) + "\n"
    _replace(folder / INDEX, lambda path: faiss.write_index(index, str(path)))
    _replace(folder / FACTS, lambda path: path.write_text(data, "utf-8"))
    return facts


class VectorIndex:
    """An index that was written, mapped into memory.

    Parameters
    ----------
    index : faiss.Index
    facts : IndexFacts
    """

    def __init__(self, index: faiss.Index, facts: IndexFacts) -> None:
        self._index = index
        self.facts = facts

    @classmethod
    def open(cls, folder: Path) -> "VectorIndex":
        """Open the index of a folder.

        Raises
        ------
        IndexUnreadable
            It is not there, damaged, too new, or not the one that its facts are of.
        """
        facts = _read_facts(folder / FACTS)
        try:
            index = faiss.read_index(str(folder / INDEX), faiss.IO_FLAG_MMAP_IFC)
        except (RuntimeError, AttributeError) as error:
            raise _unreadable(folder / INDEX, str(error).splitlines()[-1][-200:]) from None
        if (index.ntotal, index.d) != (facts.n_rows, facts.dim):
            raise _unreadable(folder / INDEX, f"{index.ntotal} rows of {index.d}, and its facts say otherwise")
        return cls(index, facts)

    def is_of(self, X: ArrayLike, numbers: ArrayLike, fingerprint: str) -> bool:
        """Tell whether the index is of these embeddings."""
        embeddings, ids = np.asanyarray(X), np.asarray(numbers, np.int64)
        same = (self.facts.fingerprint, self.facts.n_rows) == (fingerprint, len(ids))
        return same and self.facts.digest == _digest(embeddings, ids)

    def search(self, queries: ArrayLike, k: int = 10, *, fingerprint: str) -> Nearest:
        """Return the numbers of the k nearest rows, and their cosines.

        Parameters
        ----------
        queries : array-like of shape (n_queries, dim), float
        k : int
        fingerprint : str
            Of the queries.

        Raises
        ------
        EmbeddingMismatch
            Queries of another fingerprint or length.
        InvalidOption
            k is below 1.
        NotFinite
            NaN or infinity among the queries.
        """
        asked = np.asarray(queries)
        _check(self.facts.dim, asked, k)
        if fingerprint != self.facts.fingerprint:
            raise EmbeddingMismatch(
                f"the index is of {self.facts.backbone} {self.facts.fingerprint}, and the query of {fingerprint}; "
                "embed it by the same backbone"
            )
        unit = np.ascontiguousarray(unit_length(asked.astype(np.float64)), np.float32)
        cosines, numbers = self._index.search(unit, min(k, self.facts.n_rows))
        return Nearest(numbers.astype(np.int64), np.clip(cosines.astype(np.float64), -1, 1))


def seconds_a_query(index: VectorIndex) -> float:
    """Return how long one query takes, in seconds, as measured now."""
    query = np.ones((1, index.facts.dim), np.float32)
    started = time.perf_counter()
    index.search(query, 1, fingerprint=index.facts.fingerprint)
    return time.perf_counter() - started


def _check(dim: int, queries: NDArray[Any], k: int) -> None:
    if k < 1:
        raise InvalidOption(f"k is {k}; take at least 1")
    if queries.ndim != 2 or queries.shape[1] != dim:
        raise EmbeddingMismatch(f"queries are {queries.shape}, and must be (n, {dim}); embed them by the same backbone")
    check_finite(queries)


def _first_k(cosines: NDArray[np.float64], rows: NDArray[np.int64], k: int) -> tuple[Any, Any]:
    order = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(cosines, order, 1), np.take_along_axis(rows, order, 1)


def _digest(X: NDArray[Any], numbers: NDArray[np.int64]) -> str:
    from hashlib import blake2b

    found = blake2b(np.ascontiguousarray(numbers, "<i8").data, digest_size=16)
    found.update(np.ascontiguousarray(X[:: max(1, len(X) // DIGESTED_ROWS)], "<f4").data)
    return found.hexdigest()


def _read_facts(path: Path) -> IndexFacts:
    try:
        facts = json.loads(path.read_bytes())
        newer = facts.get("format", 0) > FORMAT
        found = None if newer else IndexFacts(**facts)
    except FileNotFoundError:
        raise IndexUnreadable(f"there is no {path}; make the index: headwater index {path.parent}") from None
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise _unreadable(path, type(error).__name__) from None
    if found is None:
        raise _unreadable(path, f"its format is newer than {FORMAT}")
    return found


def _unreadable(path: Path, why: str) -> IndexUnreadable:
    return IndexUnreadable(f"{path} cannot be used ({why}); make it anew: headwater index {path.parent}")


def _replace(path: Path, write: Any) -> None:
    temporary = path.with_name(f".new-{secrets.token_hex(4)}")
    try:
        temporary.touch()  # which says more plainly than FAISS that the folder may only be read
        write(temporary)
        os.replace(temporary, path)
    except OSError as error:  # of the name that people know
        raise OSError(error.errno, error.strerror, str(path)) from None
    except RuntimeError as error:  # FAISS's own, of a full disk
        raise OSError(None, str(error).splitlines()[-1][-200:], str(path)) from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
