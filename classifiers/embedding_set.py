"""A dump on disk -> embeddings X (n, dim), labels y (n,), keys and whatever was carried along, to learn from."""

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from classifiers.embeddings import first_alike
from classifiers.errors import DumpUnreadable, EmbeddingMismatch, InvalidLabels, InvalidOption, TooFewExamples
from classifiers.folds import Fold, make_folds
from classifiers.shards import ERROR, KEY, LABEL, SEPARATOR, read_shards
from classifiers.target import Target

NAMED = 5  # keys that a message names


@dataclass(frozen=True, eq=False)
class EmbeddingSet:
    """Embeddings of one backbone, with their keys, labels and carried columns; never altered, only narrowed.

    Parameters
    ----------
    matrix : ndarray of shape (n_all, dim), float32
        May be a map of a file.
    table : pyarrow.Table of n rows
        Keys, labels and carried columns.
    fingerprint, backbone : str
        What the embeddings are of; empty where nobody said.
    rows : ndarray of shape (n,), int64
        Of the matrix.
    numbers : ndarray of shape (n,), int64
        Of the dump's rows, from 0, those that failed counted too.
    errors : dict of str to str
        What was wrong with the items that have no embedding, by key.
    """

    matrix: NDArray[np.float32]
    table: Any
    fingerprint: str
    backbone: str
    rows: NDArray[np.int64]
    numbers: NDArray[np.int64]
    errors: dict[str, str] = field(default_factory=dict)

    @classmethod
    def open(cls, path: str | Path, *, mapped: bool = True) -> Self:
        """Open a dump: a folder of Parquet shards, one such file, or an `X.npy` with its keys beside it.

        Parameters
        ----------
        path : str or Path
        mapped : bool
            Keep a copy of many embeddings (64 MiB and more) beside the dump as a hidden `.npy`, which is mapped into
            memory from the next time on; where that cannot be written they are read into memory.

        Raises
        ------
        DumpUnreadable
            It is no dump, damaged, of several fingerprints, or of a newer format.
        """
        path = Path(path)
        if not path.exists():
            raise DumpUnreadable(f"there is no {path}; make it: headwater dump SOURCE {path}")
        shards = read_shards(path, mapped=mapped)
        numbers = np.flatnonzero(shards.valid)
        table, failed = shards.table.drop_columns([ERROR]), shards.table.filter(~shards.valid)
        names = (
            failed.column(KEY).to_pylist() if KEY in failed.column_names else map(str, np.flatnonzero(~shards.valid))
        )
        told = (str(error) for error in failed.column(ERROR).to_pylist())
        kept = table if shards.valid.all() else table.filter(shards.valid)
        return cls(
            shards.matrix,
            kept,
            shards.facts.fingerprint,
            shards.facts.backbone,
            np.arange(len(numbers)),
            numbers,
            dict(zip(names, told, strict=True)),
        )

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def dim(self) -> int:
        """Length of an embedding."""
        return int(self.matrix.shape[1])

    @property
    def X(self) -> NDArray[np.float32]:
        """Embeddings (n, dim) float32, read-only where nothing was narrowed, which copies."""
        return self.matrix if len(self.rows) == len(self.matrix) and self._in_order else self.matrix[self.rows]

    @property
    def y(self) -> NDArray[np.object_]:
        """Labels (n,) str, None where there is none."""
        return self.column(LABEL)

    @property
    def keys(self) -> NDArray[np.object_]:
        """Keys (n,) str; of a dump that has none the numbers of its rows."""
        if self.has_keys:
            return self.column(KEY)
        return np.array([str(number) for number in self.numbers.tolist()], object)

    @property
    def has_keys(self) -> bool:
        """Whether the dump names its items."""
        return KEY in self.table.column_names

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of what was carried along, or joined."""
        return tuple(name for name in self.table.column_names if name not in (KEY, LABEL))

    def column(self, name: str) -> NDArray[np.object_]:
        """Return a column (n,) as Python values, None where there is none.

        Raises
        ------
        InvalidOption
            There is no such column.
        """
        if name not in self.table.column_names:
            raise InvalidOption(f"there is no column {name!r}, only {', '.join(self.table.column_names)}; name one")
        values = np.empty(len(self), object)
        values[:] = self.table.column(name).to_pylist()
        return values

    def at(self, rows: ArrayLike) -> Self:
        """Return some rows: positions (m,) int, or a mask (n,) bool; the order is theirs.

        Raises
        ------
        IndexError
            There is no such row, or the mask is of another length.
        """
        chosen = np.asarray(rows)
        places = np.arange(len(self))[chosen if chosen.size else chosen.astype(np.int64)]
        return replace(self, rows=self.rows[places], numbers=self.numbers[places], table=self.table.take(places))

    def where(self, **wanted: Any) -> Self:
        """Return the rows whose label, key or carried column is a value, or one of a list: `where(split="train")`.

        Raises
        ------
        InvalidOption
            There is no such column.
        """
        kept = np.ones(len(self), bool)
        for name, value in wanted.items():
            several = isinstance(value, Collection) and not isinstance(value, str | bytes)
            kept &= _among(self.column(name), list(value) if several else [value])
        return self.at(kept)

    def filter(self, predicate: Callable[[dict[str, Any]], bool]) -> Self:
        """Return the rows of which a predicate says yes; it is given a dict of key, label and carried columns."""
        rows = (row for batch in self.table.to_batches() for row in batch.to_pylist())
        return self.at(np.fromiter((bool(predicate(row)) for row in rows), bool, len(self)))

    def groups(self, name: str) -> list[str]:
        """Return what belongs together, (n,), by a carried column of which every row has something.

        Raises
        ------
        InvalidLabels
            A row has nothing there: it would belong with all others of which that is not known.
        InvalidOption
            There is no such column.
        """
        found = self.column(name).tolist()
        if None in found:
            raise InvalidLabels(
                f"{found.count(None):,} of {len(self):,} rows have no {name!r}, the first is "
                f"{self.keys[found.index(None)]!r}; join it, or keep only rows that have one"
            )
        return [str(one) for one in found]

    def labelled(self) -> Self:
        """Return the rows that have a label."""
        return self.at(np.asarray(self.table.column(LABEL).is_valid()))

    def folds(self, cv: int = 5, *, groups: str | None = None, random_state: int | None = 0) -> tuple[Fold, ...]:
        """Deal labelled rows to folds, each with its share of every class; copies are held out together.

        Parameters
        ----------
        cv : int
        groups : str, optional
            A carried column: rows of one value are held out together.
        random_state : int or None

        Raises
        ------
        InvalidLabels
            A row has no label, or no group; narrow with `labelled()`, or `filter`.
        TooFewExamples
            There is one class, or one group.
        """
        self._check_labelled()
        same = None if groups else first_alike(self.X)
        of = np.array(self.groups(groups)) if groups else None
        return make_folds(Target.of(self.y.astype(str)), cv=cv, groups=of, same=same, random_state=random_state)

    def split(
        self, test_size: float = 0.2, *, groups: str | None = None, random_state: int | None = 0
    ) -> tuple[Self, Self]:
        """Split labelled rows in two, to learn from and to test on, each with its share of every class.

        Parameters
        ----------
        test_size : float
            In (0, 0.5]; brought to the nearest half, third, fourth and so on, as one fold of so many.
        groups : str, optional
            A carried column: rows of one value stay together.
        random_state : int or None

        Raises
        ------
        InvalidLabels
            A row has no label, or no group; narrow with `labelled()`, or `filter`.
        InvalidOption
            Another `test_size`.
        TooFewExamples
            Nothing can be held out: there is one class, one group, or no class with two examples that differ.
        """
        if not 0 < test_size <= 0.5:
            raise InvalidOption(f"test_size is {test_size}; take more than 0, and 0.5 at most")
        folds = self.folds(max(2, round(1 / test_size)), groups=groups, random_state=random_state)
        if not folds:
            raise TooFewExamples("no class has two examples that differ, so nothing can be held out; label more")
        return self.at(folds[0].train), self.at(folds[0].test)

    def join(self, labels: str | Path, *, key: str = KEY) -> "Joined":
        """Give rows what came later, by key: a `.csv`, `.jsonl` or `.parquet` with keys, labels and other columns.

        What is joined takes the place of what was there under the same name; rows that it does not name keep theirs.

        Parameters
        ----------
        labels : str or Path
        key : str
            The column of it that has the keys.

        Returns
        -------
        Joined
            The set with the new columns, and the keys that found no partner, of both sides.

        Raises
        ------
        DumpUnreadable
            The file cannot be read, or has no such column.
        InvalidLabels
            A key stands in it twice.
        """
        import pyarrow
        from pyarrow import compute

        later = _read_table(Path(labels), key)
        theirs, ours = later.column(key).combine_chunks(), pyarrow.array(self.keys, pyarrow.string())
        _check_once(theirs, Path(labels))
        places = compute.index_in(ours, value_set=theirs)
        found, table = np.asarray(places.is_valid()), self.table
        for name in later.column_names:
            if name != key:
                former = table.column(name) if name in table.column_names else None
                table = _replaced(table, name, former, later.column(name).take(places), found)
        unknown = compute.invert(compute.is_in(theirs, value_set=ours))
        return Joined(replace(self, table=table), tuple(self.keys[~found]), tuple(theirs.filter(unknown).to_pylist()))

    @classmethod
    def concatenate(cls, sets: Sequence[Self]) -> Self:
        """Return several sets as one, in memory; numbers go on from set to set.

        Raises
        ------
        EmbeddingMismatch
            They are not of one fingerprint and one length.
        TooFewExamples
            There is none.
        """
        import pyarrow

        if not sets:
            raise TooFewExamples("there is no set to put together; give at least 1")
        for one in sets[1:]:
            check_same_origin(sets[0], one)
        starts = np.cumsum([0, *(int(one.numbers.max(initial=-1)) + 1 + len(one.errors) for one in sets[:-1])])
        return replace(
            sets[0],
            matrix=np.concatenate([one.X for one in sets]),
            table=pyarrow.concat_tables([one.table for one in sets], promote_options="permissive"),
            rows=np.arange(sum(map(len, sets))),
            numbers=np.concatenate([one.numbers + start for one, start in zip(sets, starts.tolist(), strict=True)]),
            errors={key: error for one in sets for key, error in one.errors.items()},
        )

    @property
    def _in_order(self) -> bool:
        return bool((np.diff(self.rows) == 1).all())

    def _check_labelled(self) -> None:
        without = np.flatnonzero(np.asarray(self.table.column(LABEL).is_null()))
        if len(without):
            raise InvalidLabels(
                f"{len(without):,} of {len(self):,} rows have no label, the first is {self.keys[without[0]]!r}; join "
                "labels, or keep only rows that have one"
            )


class Joined(NamedTuple):
    """A set with what was joined to it, and the keys of either side that the other one does not have."""

    embeddings: EmbeddingSet
    without: tuple[str, ...]
    unknown: tuple[str, ...]


def check_same_origin(one: EmbeddingSet, other: EmbeddingSet) -> None:
    """Refuse two sets whose embeddings cannot be compared.

    Raises
    ------
    EmbeddingMismatch
        They are of different fingerprints, or lengths.
    """
    if one.fingerprint != other.fingerprint or one.dim != other.dim:
        raise EmbeddingMismatch(
            f"the embeddings are of {one.backbone or 'a backbone'} {one.fingerprint or '(unknown)'} with {one.dim} "
            f"numbers, and of {other.backbone or 'a backbone'} {other.fingerprint or '(unknown)'} with {other.dim}; "
            "dump both by one backbone"
        )


def _among(column: NDArray[np.object_], allowed: list[Any]) -> NDArray[np.bool_]:
    """Return which values of a column (n,) are among some, which may be very many."""
    try:
        known = frozenset(allowed)
        return np.fromiter((one in known for one in column), bool, len(column))
    except TypeError:  # lists, which have no hash
        return np.fromiter((one in allowed for one in column), bool, len(column))


def few(keys: Iterable[str]) -> str:
    """Return some keys in words."""
    every = list(keys)
    shown = ("".join(one if one.isprintable() else "?" for one in key) for key in every[:NAMED])  # strangers' words
    return ", ".join(shown) + (f" and {len(every) - NAMED:,} more" if len(every) > NAMED else "")


def _read_table(path: Path, key: str) -> Any:
    """Return a table whose keys and labels are strings."""
    import pyarrow

    readers = {".csv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}
    if path.suffix.lower() not in readers:
        raise DumpUnreadable(f"{path} is none of {', '.join(readers)}; name one of these")
    try:
        table = readers[path.suffix.lower()](path, key)
        if twice := [name for name, n in Counter(table.column_names).items() if n > 1]:
            raise DumpUnreadable(f"{path} has several columns {few(twice)}; rename all but one")
        names = {key, LABEL} & set(table.column_names)
        if key not in names:
            raise DumpUnreadable(
                f"{path} has no column {key!r}, only {', '.join(table.column_names) or 'nothing'}; "
                "name the one that has the keys"
            )
        for name in names:
            column = table.column(name).cast(pyarrow.string())
            table = table.set_column(table.column_names.index(name), name, column)
        return table.filter(table.column(key).is_valid())
    except DumpUnreadable:
        raise
    except FileNotFoundError:
        raise DumpUnreadable(f"there is no {path}; name a table of keys and labels") from None
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise DumpUnreadable(f"{path} cannot be read: {str(error)[:300]}; mend it") from None


def _as_dumped(label: Any) -> Any:
    """Return a label as a dump has it: several in one, a number as Python writes it, and NaN for none."""
    if isinstance(label, list):
        return SEPARATOR.join(map(str, label))
    if isinstance(label, int | float):
        return str(label) if label == label else None
    return None if label == "" else label


def _read_csv(path: Path, key: str) -> Any:
    import pyarrow
    from pyarrow import csv

    return csv.read_csv(
        path,
        parse_options=csv.ParseOptions(newlines_in_values=True),
        convert_options=csv.ConvertOptions(
            column_types={name: pyarrow.string() for name in (key, LABEL)},
            null_values=[""],  # not Arrow's own list, for "null" and "NA" may be keys or labels
            strings_can_be_null=True,
        ),
    )


def _read_jsonl(path: Path, _: str) -> Any:
    """Read objects one a line; Arrow's own reader takes keys and labels that look like times for times."""
    import pyarrow

    with path.open(encoding="utf-8-sig") as file:
        rows = [json.loads(line) for line in file if line.strip()]
    if not all(isinstance(row, dict) for row in rows):
        raise DumpUnreadable(f"{path} has a line that is no object; write one a line, with a key and a label")
    for row in rows:
        if LABEL in row:  # a number, and names, may stand in one column
            row[LABEL] = _as_dumped(row[LABEL])
    names = dict.fromkeys(name for row in rows for name in row)
    return pyarrow.table({name: [row.get(name) for row in rows] for name in names})


def _read_parquet(path: Path, _: str) -> Any:
    import pyarrow
    from pyarrow import parquet

    table = parquet.read_table(path)
    if LABEL not in table.column_names:
        return table
    labels = pyarrow.array(map(_as_dumped, table.column(LABEL).to_pylist()))
    return table.set_column(table.column_names.index(LABEL), LABEL, labels)


def _check_once(keys: Any, path: Path) -> None:
    from pyarrow import compute

    counts = compute.value_counts(keys)
    twice = counts.filter(compute.greater(counts.field(1), 1)).field(0).to_pylist()
    if twice:
        raise InvalidLabels(
            f"{len(twice):,} keys stand in {path} more than once: {few(map(str, twice))}; keep one each"
        )


def _replaced(table: Any, name: str, former: Any, later: Any, found: NDArray[np.bool_]) -> Any:
    """Return a table with a column in which rows that were not found keep what they had; of two types, as strings."""
    import pyarrow
    from pyarrow import compute

    if former is None:
        return table.append_column(name, later)
    try:
        former = former.cast(later.type)
    except pyarrow.ArrowException:
        former, later = former.cast(pyarrow.string()), later.cast(pyarrow.string())
    return table.set_column(table.column_names.index(name), name, compute.if_else(found, later, former))
