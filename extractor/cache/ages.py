"""When the entries of an LMDB environment were last used: keys <-> generations, so that the oldest are found first.

Two tables: `ages` has the generation of each key; `order` generation and key together, sorted. A generation is a share
of the bound's bytes written: an entry that is used moves to the present one, once a generation, and where nothing is
written nothing ages. So look-ups write nothing while nothing is evicted for anybody.
"""

import struct
from collections.abc import Generator

import lmdb

from extractor.cache.environment import Transaction

GENERATIONS = 32  # to a turnover of the whole store
_GENERATION = struct.Struct(">Q")  # big-endian, so that LMDB sorts it
_STATE = struct.Struct(">QQ")
_OLDEST = bytes(_GENERATION.size)


class Ages:
    """The ages of an environment's entries; every method works inside a transaction of the caller's.

    Parameters
    ----------
    environment : lmdb.Environment
    """

    def __init__(self, environment: "lmdb.Environment") -> None:
        self.ages = environment.open_db(b"ages")
        self.order = environment.open_db(b"order")
        self._facts = environment.open_db(b"facts")

    def advance(self, transaction: Transaction, n_bytes: int, max_bytes: int) -> bytes:
        """Count what is written, and return the generation that it belongs to."""
        generation, written = _STATE.unpack(transaction.get(b"generation", bytes(_STATE.size), db=self._facts))
        written += n_bytes
        if written * GENERATIONS > max_bytes:
            generation, written = generation + 1, 0
        transaction.put(b"generation", _STATE.pack(generation, written), db=self._facts)
        return _GENERATION.pack(generation)

    def make_young(self, transaction: Transaction, key: bytes, generation: bytes) -> None:
        """Say that an entry is used now."""
        old = transaction.get(key, db=self.ages)
        if old == generation:
            return
        if old is not None:
            transaction.delete(old + key, db=self.order)
        transaction.put(key, generation, db=self.ages)
        transaction.put(generation + key, b"", db=self.order)

    def knows(self, transaction: Transaction, key: bytes) -> bool:
        """Tell whether a key has an age."""
        return transaction.get(key, db=self.ages) is not None

    def forget(self, transaction: Transaction, key: bytes) -> None:
        """Drop the age of an entry that is deleted."""
        generation = transaction.pop(key, db=self.ages)
        if generation is not None:
            transaction.delete(generation + key, db=self.order)

    def oldest(self, transaction: Transaction) -> Generator[bytes, None, None]:
        """Take keys out of the order, the oldest first."""
        with transaction.cursor(self.order) as cursor:
            while cursor.first():
                place = cursor.key()
                cursor.delete()  # whatever `ages` says, or it would stand first for ever
                yield place[_GENERATION.size :]

    # -- what a check mends: rows, ages and order that do not agree

    def give(self, transaction: Transaction, key: bytes) -> bool:
        """Make the entry of a row that has no age, or no place in the order, the oldest: it would never be evicted."""
        age = transaction.get(key, db=self.ages)
        if age is not None and transaction.get(age + key, db=self.order) is not None:
            return False
        transaction.delete(key, db=self.ages)
        self.make_young(transaction, key, _OLDEST)
        return True

    def drop_place(self, transaction: Transaction, place: bytes) -> bool:
        """Drop a place in the order that no age points to."""
        generation, key = place[: _GENERATION.size], place[_GENERATION.size :]
        return transaction.get(key, db=self.ages) != generation and bool(transaction.delete(place, db=self.order))
