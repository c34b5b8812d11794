"""An entry as tiers outside the process store it: key and embedding (dim,) <-> bytes with a checksum.

A row is its checksum (uint32), a format number, flags, two zeros, the dimension (uint32) and the embedding, all
little-endian: 12 bytes and 4 for each float32. The checksum is CRC-32 of the entry's key and of the rest, so that a row
found under another key fails it too. It has to find what disks and networks spoil, not what an enemy forges: whoever
can write rows can write checksums, and BLAKE3 here would cost more than the look-up.
"""

import struct
from zlib import crc32

import numpy as np

from extractor.outcome import Embedded

HEADER_BYTES = 12
CHECKSUM_BYTES = 4
FORMAT = 1
_TRUNCATED = 1
_FACTS = struct.Struct("<BBHI")


def encode(key: bytes, entry: Embedded) -> bytes:
    """Return the row of an entry; the embedding is finite float32 (dim,)."""
    values = np.ascontiguousarray(entry.embedding, "<f4")
    body = _FACTS.pack(FORMAT, _TRUNCATED if entry.truncated else 0, 0, len(values)) + values.tobytes()
    return _checksum(key, body).to_bytes(CHECKSUM_BYTES, "little") + body


def decode(key: bytes, row: bytes) -> Embedded | None:
    """Return the entry of a row, its embedding read-only; None where the row is not what was stored under the key."""
    if len(row) < HEADER_BYTES:
        return None
    if _checksum(key, memoryview(row)[CHECKSUM_BYTES:]) != int.from_bytes(row[:CHECKSUM_BYTES], "little"):
        return None
    form, flags, _, dim = _FACTS.unpack_from(row, CHECKSUM_BYTES)
    if form != FORMAT or len(row) != HEADER_BYTES + 4 * dim:
        return None
    return Embedded(np.frombuffer(row, "<f4", offset=HEADER_BYTES), flags == _TRUNCATED)


def _checksum(key: bytes, body: bytes | memoryview) -> int:
    return crc32(body, crc32(key))
