"""A head <-> a folder of JSON and `.npy`: readable without us, and loading it runs nobody's code.

`head.json` has the classes, what the head was made from and the SHA-256 of the arrays beside it. Every file is written
under a temporary name and renamed, `head.json` last: a folder without it is no head. Nothing here reads pickle.
"""

import hashlib
import io
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classifiers.errors import HeadInvalid
from classifiers.linear import LinearHead

HEAD_FILE = "head.json"
FORMAT = 1
KIND = "linear"
ARRAYS = {"weights": 2, "bias": 1}  # by name, with their dimensions
MAX_JSON_BYTES = 256 << 20


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a head was made from.

    Parameters
    ----------
    backbone, fingerprint : str
        Of the embeddings that it was trained on, and those that it may be given.
    dim : int
        Their length.
    created : str
        ISO 8601, UTC.
    metrics : mapping of str to float
        What was measured when it was made: `cv_accuracy`.
    options : mapping
        How it was made: the estimator and its parameters.
    items : sequence of str
        Keys of the items that it was trained on, in hexadecimal digits.
    versions : mapping of str to str
        Of the libraries that made it.
    """

    backbone: str
    fingerprint: str
    dim: int
    created: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    items: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)


def save_head(folder: Path, head: LinearHead, manifest: Manifest) -> None:
    """Write a head; one that is in the folder already is replaced.

    Raises
    ------
    HeadInvalid
        The manifest is of embeddings of another length.
    OSError
        The folder cannot be written.
    """
    if manifest.dim != head.dim:
        raise HeadInvalid(f"the head takes embeddings of length {head.dim}, its manifest says {manifest.dim}")
    folder.mkdir(parents=True, exist_ok=True)
    contents = {name: _npy(getattr(head, name)) for name in ARRAYS}
    facts = {
        "format": FORMAT,
        "kind": KIND,
        "classes": head.classes_.tolist(),
        **asdict(manifest),
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()},
    }
    for name, content in contents.items():
        _write(folder / f"{name}.npy", content)
    _write(folder / HEAD_FILE, json.dumps(facts, indent=1, ensure_ascii=False).encode() + b"\n")


def load_head(folder: Path) -> tuple[LinearHead, Manifest]:
    """Read a head and what it was made from.

    Raises
    ------
    HeadInvalid
        The folder holds no head, one that was altered or is damaged, or one of a newer format.
    """
    facts = _facts(folder / HEAD_FILE)
    try:
        if facts["format"] != FORMAT or facts["kind"] != KIND:
            raise HeadInvalid(
                f"head in {folder} has format {facts['format']!r} and kind {facts['kind']!r}, this Headwater reads "
                f"{FORMAT} and {KIND!r}; upgrade Headwater, or train the head again"
            )
        manifest = _manifest(facts)
        arrays = {name: _array(folder / f"{name}.npy", facts["files"][name], n) for name, n in ARRAYS.items()}
        head = LinearHead(_classes(facts["classes"]), **arrays)
    except (KeyError, TypeError, AttributeError) as error:
        raise HeadInvalid(f"head in {folder} is malformed ({error}); train it again") from None
    if head.dim != manifest.dim:
        raise HeadInvalid(f"head in {folder} takes length {head.dim}, and says {manifest.dim}; train it again")
    return head, manifest


def _facts(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise HeadInvalid(f"{path} has {path.stat().st_size:,} bytes, the limit is {MAX_JSON_BYTES:,}")
        facts = json.loads(path.read_bytes())
    except OSError as error:
        raise HeadInvalid(f"there is no head in {path.parent}: {error.strerror}; make one: headwater train") from None
    except (ValueError, RecursionError) as error:
        raise HeadInvalid(f"{path} is not JSON ({error}); train the head again") from None
    if not isinstance(facts, dict):
        raise HeadInvalid(f"{path} is malformed: it holds no object; train the head again")
    return facts


def _manifest(facts: dict[str, Any]) -> Manifest:
    values = {name: facts[name] for name in Manifest.__dataclass_fields__}
    for name, kind in (("backbone", str), ("fingerprint", str), ("dim", int), ("created", str)):
        if not isinstance(values[name], kind):
            raise TypeError(f"{name} is {values[name]!r}")
    return Manifest(**{**values, "items": tuple(values["items"])})


def _classes(labels: Any) -> NDArray[Any]:
    if not isinstance(labels, list) or not (
        all(isinstance(one, str) for one in labels) or all(type(one) is int for one in labels)
    ):
        raise TypeError("classes are neither all names nor all whole numbers")
    return np.array(labels)


def _array(path: Path, sha256: str, n_dimensions: int) -> NDArray[np.float64]:
    """Read an array whose bytes are those that were written; no pickle, whatever the file says."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise HeadInvalid(f"{path} cannot be read: {error.strerror}; train the head again") from None
    if hashlib.sha256(content).hexdigest() != sha256:
        raise HeadInvalid(f"{path} was altered: it does not match its hash in {HEAD_FILE}; train the head again")
    try:
        array: NDArray[np.float64] = np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise HeadInvalid(f"{path} is no array ({error}); train the head again") from None
    if array.dtype != np.float64 or array.ndim != n_dimensions:
        raise HeadInvalid(f"{path} is {array.dtype} {array.shape}, not float64 of {n_dimensions} dimensions")
    return array


def _npy(array: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array, "<f8"), allow_pickle=False)
    return buffer.getvalue()


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
