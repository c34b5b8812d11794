"""A loaded head and embeddings -> the predictions of an answer; facts of heads -> their messages. For any thread."""

import json
import logging
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from classifiers.errors import HeadInvalid
from headwater import prediction, shelf
from headwater.errors import HeadError, HeadNotFound
from headwater.heads import item_status
from headwater.order import check_installed
from headwater.prediction import Prediction
from headwater.service.heads import LoadedHead, Stamp, stamp_of
from headwater.shelf import Version
from headwater.status import ROOTS
from headwater.v1 import classifier_pb2 as pb

if TYPE_CHECKING:
    from classifiers.persist import Manifest

log = logging.getLogger(__name__)

MAX_LISTED = 4096  # versions whose facts are remembered
MALFORMED = (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError)


def predict(loaded: LoadedHead, X: NDArray[np.float32], top: int) -> list[Prediction]:
    """Return the predictions of embeddings.

    Parameters
    ----------
    loaded : LoadedHead
    X : ndarray of shape (n, dim), float32
        Finite.
    top : int
        Labels of each, at most MAX_SHOWN.

    Raises
    ------
    HeadInvalid
        The head fails on them.
    """
    try:
        return prediction.predict(loaded.head, X, top=top, title=str(loaded.version))
    except ROOTS:
        raise
    except Exception:
        log.exception("head %s failed on %d embeddings", loaded.version, len(X))
        raise HeadInvalid(f"head {loaded.version} fails on embeddings of its kind; train it again") from None


def listed() -> list[pb.Head]:
    """Return all heads with their versions; one that cannot be read says so; raises RuntimeMissing."""
    check_installed()
    return [pb.Head(name=name, versions=list(_listed(name)), aliases=_aliases(name)) for name in shelf.head_names()]


def described(loaded: LoadedHead) -> pb.HeadVersion:
    """Return the facts of one version; raises HeadInvalid."""
    head = loaded.head
    labels = [str(label) for label in head.classes_.tolist()]
    rejection = vars(head.rejection) if head.rejection is not None else None
    message = _described(loaded.version, loaded.manifest, head.kind, len(labels), rejection)
    message.labels.extend(labels)
    return message


def _described(version: Version, manifest: "Manifest", kind: str, n_labels: int, rejection: Any) -> pb.HeadVersion:
    try:
        return pb.HeadVersion(
            name=version.name,
            number=version.number,
            kind=kind,
            n_labels=n_labels,
            backbone=manifest.backbone,
            fingerprint=manifest.fingerprint,
            dim=manifest.dim,
            created=manifest.created,
            metrics={name: float(value) for name, value in manifest.metrics.items()},
            options={name: json.dumps(value) for name, value in manifest.options.items()},
            n_items=len(manifest.items),
            library_versions=manifest.versions,
            rejection=pb.Rejection(**rejection) if rejection else None,
        )
    except MALFORMED as error:
        raise HeadInvalid(f"head {version} is malformed ({type(error).__name__}); train it again") from None


def _listed(name: str) -> Iterator[pb.HeadVersion]:
    for version in shelf.versions(name):
        with suppress(HeadNotFound):  # it was deleted in this moment
            yield _in_list(version, stamp_of(version))


@lru_cache(MAX_LISTED)
def _in_list(version: Version, stamp: Stamp) -> pb.HeadVersion:
    """Return a version as a list has it; read once while its file is the same, for many keys of items are slow JSON."""
    from classifiers.persist import load_manifest

    try:
        manifest, facts = load_manifest(version.folder)
        return _described(version, manifest, facts["kind"], len(facts["classes"]), facts["rejection"])
    except HeadInvalid as error:
        why = HeadInvalid(str(error).replace(str(version.folder), str(version)))
    except MALFORMED as error:
        why = HeadInvalid(f"head {version} is malformed ({type(error).__name__}); train it again")
    return pb.HeadVersion(name=version.name, number=version.number, error=item_status(why))


def _aliases(name: str) -> dict[str, int]:
    try:
        return {alias: number for alias, number in shelf.aliases(name).items() if 0 < number < 1 << 32}
    except HeadError:  # the file is malformed: whoever asks for one of them is told
        return {}
