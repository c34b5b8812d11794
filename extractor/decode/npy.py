"""Bytes of an `.npy` file -> the array in it, with its dtype and shape known before it is read."""

import io
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extractor.errors import ItemError, UndecodableItem

MAGIC = b"\x93NUMPY"
_KINDS = "biuf"  # bool, integers and floats; neither objects nor text, dates, records, complex numbers


def decode_npy(data: bytes) -> NDArray[Any]:
    """Read one array of numbers; pickled objects are never loaded.

    Returns
    -------
    ndarray
        Of the shape and dtype that the file says, in the machine's byte order and C order; it may be read-only.

    Raises
    ------
    UndecodableItem
        Not an `.npy` file, a damaged one, or one of anything but numbers.
    """
    if not data.startswith(MAGIC):
        raise UndecodableItem(
            f"no .npy array: {len(data):,} bytes that begin with {data[:8]!r}; send an ndarray, or what numpy.save "
            "writes; a file's name goes as a pathlib.Path"
        )
    try:
        return _read(data)
    except ItemError:
        raise
    except Exception:  # NumPy parses the header as Python: a hostile one raises nearly anything
        raise UndecodableItem(
            f".npy array is damaged or cut short ({len(data):,} bytes); send the whole file"
        ) from None


def _read(data: bytes) -> NDArray[Any]:
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read_header(file)
    if dtype.kind not in _KINDS:
        raise UndecodableItem(f"array is of {dtype}; as an item it must be of bool, integers or floats")
    expected, found = prod(shape) * dtype.itemsize, len(data) - file.tell()
    if expected != found:
        raise UndecodableItem(
            f".npy array of {dtype} {shape} takes {expected:,} bytes, and has {found:,}; send the whole file"
        )
    if not expected:
        return np.empty(shape, dtype.newbyteorder("="))
    array: NDArray[Any] = np.frombuffer(data, dtype, offset=file.tell())
    array = array.reshape(shape[::-1]).T if fortran else array.reshape(shape)
    return np.ascontiguousarray(array, dtype.newbyteorder("=")).reshape(shape)
