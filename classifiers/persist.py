"""A head <-> a folder of JSON and arrays: readable without us, and loading it runs nobody's code.

`head.json` has the classes, what the head was made from and the SHA-256 of each file beside it. Linear, centroid,
network and kernel heads and all calibrations are `.npy`; estimators that are more than arrays are kept by skops, and
only those that `estimator_file` names are read. Every file is written under a temporary name and renamed, `head.json`
last: a folder without it is no head. Nothing here reads pickle.
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
from classifiers.estimator_file import packed, unpacked
from classifiers.head import Calibration, Head, Rejection
from classifiers.preparation import Preparation
from classifiers.scorer import Fitted, Kernel, Layers, Scorer

HEAD_FILE = "head.json"
FORMAT = 1
MAX_JSON_BYTES = 256 << 20
MAX_LAYERS = 8

ESTIMATOR = "estimator.skops"


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


def save_head(folder: Path, head: Head, manifest: Manifest) -> None:
    """Write a head; one that is in the folder already is replaced.

    Raises
    ------
    HeadInvalid
        The manifest is of embeddings of another length, or the head has an estimator that could not be read again.
    OSError
        The folder cannot be written.
    """
    if manifest.dim != head.dim:
        raise HeadInvalid(f"the head takes embeddings of length {head.dim}, its manifest says {manifest.dim}")
    contents = {name: _npy(array) for name, array in _arrays(head).items()}
    if isinstance(head.scorer, Fitted):
        contents[ESTIMATOR] = packed(head.scorer.estimator)
    facts = {
        "format": FORMAT,
        "kind": head.kind,
        "classes": head.classes_.tolist(),
        "preparation": {
            "transformation": head.scorer.preparation.transformation,
            "scale": head.scorer.preparation.scale,
        },
        "layers": len(head.scorer.weights) if isinstance(head.scorer, Layers) else 0,
        "gamma": head.scorer.gamma if isinstance(head.scorer, Kernel) else None,
        "rejection": asdict(head.rejection) if head.rejection else None,
        **asdict(manifest),
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()},
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        _write(folder / name, content)
    _write(folder / HEAD_FILE, json.dumps(facts, indent=1, ensure_ascii=False).encode() + b"\n")


def load_head(folder: Path) -> tuple[Head, Manifest]:
    """Read a head and what it was made from.

    Raises
    ------
    HeadInvalid
        The folder holds no head, one that was altered or is damaged, or one of a newer format.
    """
    facts = _facts(folder / HEAD_FILE)
    try:
        if facts["format"] != FORMAT:
            raise HeadInvalid(
                f"head in {folder} has format {facts['format']!r}, this Headwater reads {FORMAT}; "
                "upgrade Headwater, or train the head again"
            )
        manifest = _manifest(facts)
        head = _head(folder, facts)
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise HeadInvalid(f"head in {folder} is malformed ({error}); train it again") from None
    if head.dim != manifest.dim:
        raise HeadInvalid(f"head in {folder} takes length {head.dim}, and says {manifest.dim}; train it again")
    return head, manifest


def load_manifest(folder: Path) -> tuple[Manifest, dict[str, Any]]:
    """Read what a head was made from, and all of `head.json`, without its arrays; raises HeadInvalid."""
    facts = _facts(folder / HEAD_FILE)
    try:
        return _manifest(facts), facts
    except (KeyError, TypeError, AttributeError) as error:
        raise HeadInvalid(f"head in {folder} is malformed ({error}); train it again") from None


def _arrays(head: Head) -> dict[str, NDArray[np.float64]]:
    arrays = {
        "center.npy": head.scorer.preparation.center,
        "scale.npy": head.calibration.scale,
        "shift.npy": head.calibration.shift,
    }
    if isinstance(head.scorer, Layers):
        for i, (weight, bias) in enumerate(zip(head.scorer.weights, head.scorer.biases, strict=True)):
            arrays |= {f"weight_{i}.npy": weight, f"bias_{i}.npy": bias}
    if isinstance(head.scorer, Kernel):
        arrays |= {"support.npy": head.scorer.support, "dual.npy": head.scorer.dual, "bias.npy": head.scorer.bias}
    return arrays


def _head(folder: Path, facts: dict[str, Any]) -> Head:
    files = facts["files"]

    def array(name: str, n_dimensions: int = 1) -> NDArray[np.float64]:
        return _array(folder / name, _content(folder / name, files[name]), n_dimensions)

    classes, layers, given = _classes(facts["classes"]), facts["layers"], facts["preparation"]
    preparation = Preparation(given["transformation"], array("center.npy"), float(given["scale"]))
    if type(layers) is not int or not 0 <= layers <= MAX_LAYERS:
        raise HeadInvalid(f"head in {folder} has {layers!r} layers, the limit is {MAX_LAYERS}; train it again")
    scorer: Scorer
    if layers:
        weights = tuple(array(f"weight_{i}.npy", 2) for i in range(layers))
        scorer = Layers(preparation, weights, tuple(array(f"bias_{i}.npy") for i in range(layers)))
    elif facts.get("gamma") is not None:
        support, dual, bias = array("support.npy", 2), array("dual.npy", 2), array("bias.npy")
        scorer = Kernel(preparation, support, dual, bias, float(facts["gamma"]))
    else:
        estimator = unpacked(_content(folder / ESTIMATOR, files[ESTIMATOR]))
        if estimator.n_features_in_ != preparation.dim:
            raise HeadInvalid(f"{folder / ESTIMATOR} takes length {estimator.n_features_in_}, not {preparation.dim}")
        scorer = Fitted(preparation, estimator, len(classes))
    calibration = Calibration(array("scale.npy"), array("shift.npy"))
    return Head(facts["kind"], classes, scorer, calibration, _rejection(facts["rejection"]))


def _rejection(facts: Any) -> Rejection | None:
    if facts is None:
        return None
    return Rejection(str(facts["score"]), float(facts["threshold"]), str(facts["rule"]))


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
    kinds = {"backbone": str, "fingerprint": str, "dim": int, "created": str}
    kinds |= dict.fromkeys(("metrics", "options", "versions"), dict)
    for name, kind in kinds.items():
        if not isinstance(values[name], kind):
            raise TypeError(f"{name} is {values[name]!r}")
    return Manifest(**{**values, "items": tuple(values["items"])})


def _classes(labels: Any) -> NDArray[Any]:
    if not isinstance(labels, list) or not (
        all(isinstance(one, str) for one in labels) or all(type(one) is int for one in labels)
    ):
        raise TypeError("classes are neither all names nor all whole numbers")
    return np.array(labels)


def _content(path: Path, sha256: str) -> bytes:
    """Read a file whose bytes are those that were written."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise HeadInvalid(f"{path} cannot be read: {error.strerror}; train the head again") from None
    if hashlib.sha256(content).hexdigest() != sha256:
        raise HeadInvalid(f"{path} was altered: it does not match its hash in {HEAD_FILE}; train the head again")
    return content


def _array(path: Path, content: bytes, n_dimensions: int) -> NDArray[np.float64]:
    """Read an array; no pickle, whatever the file says."""
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
