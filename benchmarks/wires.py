"""A server's protocol -> how items become the bytes of a request, and the bytes of an answer embeddings again.

Messages of the Open Inference Protocol (KServe v2: MLServer, Triton) are put together by hand here: three fields are
no reason to generate code, and two packages of generated code for one protocol cannot live in one process.
"""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from headwater.v1 import extractor_pb2 as pb

LENGTH_DELIMITED = 2  # protobuf's wire type of strings, bytes and messages


@dataclass(frozen=True, kw_only=True)
class Wire:
    """How one server is spoken to.

    Parameters
    ----------
    protocol : str
        `grpc` or `http`.
    path : str
    content_type : str
        Of an HTTP body.
    pack : callable
        Items -> the bytes of a request.
    unpack : callable
        The bytes of an answer, and the length of an embedding -> X (n, dim) float32.
    """

    protocol: str
    path: str
    content_type: str = ""
    pack: Callable[[Sequence[bytes]], bytes]
    unpack: Callable[[bytes, int], np.ndarray]


def headwater(backbone: str) -> Wire:
    """`ExtractorService.Extract`."""

    def pack(items: Sequence[bytes]) -> bytes:
        request = pb.ExtractRequest(backbone=backbone, items=[pb.Item(data=item) for item in items])
        return request.SerializeToString()

    def unpack(answer: bytes, dim: int) -> np.ndarray:
        response = pb.ExtractResponse.FromString(answer)
        assert [outcome.row for outcome in response.outcomes] == list(range(len(response.outcomes)))
        assert not any(outcome.HasField("error") or outcome.cached for outcome in response.outcomes)
        return _rows(response.embeddings, dim)

    return Wire(protocol="grpc", path="/headwater.v1.ExtractorService/Extract", pack=pack, unpack=unpack)


def oip(model: str) -> Wire:
    """`ModelInfer` of one input of BYTES, raw both ways; the last 4 · dim · n bytes of its output are the rows."""

    def pack(items: Sequence[bytes]) -> bytes:
        shape = _bytes_field(3, _varint(len(items)) + _varint(1))
        tensor = _bytes_field(1, b"images") + _bytes_field(2, b"BYTES") + shape
        raw = prefixed(items)
        return _bytes_field(1, model.encode()) + _bytes_field(5, tensor) + _bytes_field(7, raw)

    def unpack(answer: bytes, dim: int) -> np.ndarray:
        (raw,) = (value for number, value in _bytes_fields(answer) if number == 6)
        return _rows(raw[len(raw) % (4 * dim) :], dim)

    return Wire(protocol="grpc", path="/inference.GRPCInferenceService/ModelInfer", pack=pack, unpack=unpack)


def octets(path: str) -> Wire:
    """Post items, each behind its length; the answer is the rows."""
    return Wire(protocol="http", path=path, content_type="application/octet-stream", pack=prefixed, unpack=_rows)


def prefixed(items: Sequence[bytes]) -> bytes:
    """Join items, each behind its length as a uint32, little-endian."""
    return b"".join(struct.pack("<I", len(item)) + item for item in items)


def _rows(raw: bytes, dim: int) -> np.ndarray:
    return np.frombuffer(raw, "<f4").reshape(-1, dim)


def _varint(value: int) -> bytes:
    digits = bytearray()
    while value >= 0x80:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*digits, value])


def _bytes_field(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | LENGTH_DELIMITED) + _varint(len(value)) + value


def _bytes_fields(message: bytes) -> list[tuple[int, bytes]]:
    """Read a message all of whose fields are strings, bytes or messages."""
    found, position = [], 0
    while position < len(message):
        tag, position = _read_varint(message, position)
        assert tag & 7 == LENGTH_DELIMITED, f"field {tag >> 3} is not length-delimited"
        length, position = _read_varint(message, position)
        found.append((tag >> 3, message[position : position + length]))
        position += length
    return found


def _read_varint(message: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position
