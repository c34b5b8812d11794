"""A loaded head and embeddings -> the predictions of an answer; facts of heads -> their messages. For any thread."""

import json
import logging

import numpy as np
from numpy.typing import NDArray

from classifiers.errors import HeadInvalid
from headwater import prediction, shelf
from headwater.errors import HeadError
from headwater.heads import item_status
from headwater.order import check_installed
from headwater.prediction import Prediction
from headwater.service.heads import LoadedHead
from headwater.shelf import Version
from headwater.status import ROOTS
from headwater.v1 import classifier_pb2 as pb

log = logging.getLogger(__name__)


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
    return [
        pb.Head(name=name, versions=[_listed(version) for version in shelf.versions(name)], aliases=_aliases(name))
        for name in shelf.head_names()
    ]


def described(version: Version, *, with_labels: bool = True) -> pb.HeadVersion:
    """Return the facts of one version; raises HeadInvalid."""
    from classifiers.persist import load_manifest

    manifest, facts = load_manifest(version.folder)
    try:
        labels, rejection = [str(label) for label in facts["classes"]], facts["rejection"]
        return pb.HeadVersion(
            name=version.name,
            number=version.number,
            kind=facts["kind"],
            labels=labels if with_labels else (),
            n_labels=len(labels),
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
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise HeadInvalid(f"head {version} is malformed ({error}); train it again") from None


def _listed(version: Version) -> pb.HeadVersion:
    try:
        return described(version, with_labels=False)
    except HeadInvalid as error:
        return pb.HeadVersion(name=version.name, number=version.number, error=item_status(error))


def _aliases(name: str) -> dict[str, int]:
    try:
        return {alias: number for alias, number in shelf.aliases(name).items() if 0 < number < 1 << 32}
    except HeadError:  # the file is malformed: whoever asks for one of them is told
        return {}
