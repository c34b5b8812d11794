"""An entry as tiers outside the process store it: key and embedding (dim,) <-> bytes with a checksum.

A row is 8 bytes of checksum, a format number, flags, two zeros, the dimension (uint32) and the embedding, all
little-endian: 16 bytes and 4 for each float32. The checksum is BLAKE3 of the rest, keyed by the last 32 bytes of the
entry's key, so that a row found under another key fails it too.
"""

import struct

import numpy as np
from blake3 import blake3

from extractor.outcome import Embedded

HEADER_BYTES = 16
CHECKSUM_BYTES = 8
FORMAT = 1
_TRUNCATED = 1
_FACTS = struct.Struct("<BBHI")


def encode(key: bytes, entry: Embedded) -> bytes:
    """Return the row of an entry; the embedding is finite float32 (dim,)."""
    values = np.ascontiguousarray(entry.embedding, "<f4")
    body = _FACTS.pack(FORMAT, _TRUNCATED if entry.truncated else 0, 0, len(values)) + values.tobytes()
    return _checksum(key, body) + body


def decode(key: bytes, row: bytes) -> Embedded | None:
    """Return the entry of a row, its embedding read-only; None where the row is not what was stored under the key."""
    if len(row) < HEADER_BYTES or _checksum(key, memoryview(row)[CHECKSUM_BYTES:]) != row[:CHECKSUM_BYTES]:
        return None
    form, flags, _, dim = _FACTS.unpack_from(row, CHECKSUM_BYTES)
    if form != FORMAT or len(row) != HEADER_BYTES + 4 * dim:
        return None
    return Embedded(np.frombuffer(row, "<f4", offset=HEADER_BYTES), flags == _TRUNCATED)


def _checksum(key: bytes, body: bytes | memoryview) -> bytes:
    return blake3(body, key=key[-32:]).digest(CHECKSUM_BYTES)
