"""An entry as tiers outside the process store it: key and embedding (dim,) <-> bytes with a checksum.

A row is 8 bytes of checksum, a format number, flags, two zeros, the dimension (uint32) and the embedding, all
little-endian: 16 bytes and 4 for each float32. The checksum is the CRC-32 of the entry's key and of the rest of the
row, so that a row found under another key fails it too. It is there for disks that err, not for people who forge:
BLAKE3 would take four times as long.
"""

import struct
import zlib

import numpy as np

from extractor.outcome import Embedded

HEADER_BYTES = 16
CHECKSUM_BYTES = 8
FORMAT = 1
_TRUNCATED = 1
_CHECKSUM = struct.Struct("<Q")
_FACTS = struct.Struct("<BBHI")
_HEADER = struct.Struct("<QBBHI")
_FLOAT32 = np.dtype("<f4")
_STEP = 5 << 10  # what zlib works on without giving up the GIL, for which other threads would then stand in line


def encode(key: bytes, entry: Embedded) -> bytes:
    """Return the row of an entry; the embedding is finite float32 (dim,)."""
    values = np.ascontiguousarray(entry.embedding, _FLOAT32)
    body = _FACTS.pack(FORMAT, _TRUNCATED if entry.truncated else 0, 0, len(values)) + values.tobytes()
    return _CHECKSUM.pack(_checksum(key, memoryview(body))) + body


def decode(key: bytes, row: bytes) -> Embedded | None:
    """Return the entry of a row, its embedding read-only; None where the row is not what was stored under the key."""
    if len(row) < HEADER_BYTES:
        return None
    checksum, form, flags, _, dim = _HEADER.unpack_from(row)
    if _checksum(key, memoryview(row)[CHECKSUM_BYTES:]) != checksum:
        return None
    if form != FORMAT or len(row) != HEADER_BYTES + 4 * dim:
        return None
    return Embedded(np.frombuffer(row, _FLOAT32, offset=HEADER_BYTES), flags == _TRUNCATED)


def _checksum(key: bytes, body: memoryview) -> int:
    value = zlib.crc32(key)
    for start in range(0, len(body), _STEP):
        value = zlib.crc32(body[start : start + _STEP], value)
    return value
