"""A loaded head and embeddings -> the predictions of an answer; facts of heads -> their messages. For any thread."""

import json
import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classifiers.errors import HeadInvalid
from extractor.errors import InferenceFailed
from headwater import shelf
from headwater.errors import HeadError
from headwater.heads import PRESENT, item_status
from headwater.order import check_installed
from headwater.service.heads import LoadedHead
from headwater.shelf import Version
from headwater.status import ROOTS
from headwater.v1 import classifier_pb2 as pb

log = logging.getLogger(__name__)

MAX_TOP = 100
REGRESSION = "regression"


def predict(loaded: LoadedHead, X: NDArray[np.float32], top: int) -> list[pb.Prediction]:
    """Return the predictions of embeddings.

    Parameters
    ----------
    loaded : LoadedHead
    X : ndarray of shape (n, dim), float32
        Finite.
    top : int
        Labels of each, at most MAX_TOP.

    Raises
    ------
    HeadInvalid
        The head fails on them.
    """
    try:
        return _predict(loaded, X, top) if len(X) else []
    except ROOTS:
        raise
    except Exception:
        log.exception("head %s failed on %d embeddings", loaded.version, len(X))
        raise HeadInvalid(f"head {loaded.version} fails on embeddings of its kind; train it again") from None


def _predict(loaded: LoadedHead, X: NDArray[np.float32], top: int) -> list[pb.Prediction]:
    head = loaded.head
    scores = head.scores(X)
    if head.kind == REGRESSION:
        return [pb.Prediction(values=row) if np.isfinite(row).all() else _failed(loaded) for row in scores]
    probabilities, known = head.probabilities(scores), head.knowing(scores)
    threshold = head.rejection.threshold if head.rejection else -np.inf
    labels = [str(label) for label in head.classes_.tolist()]
    n_shown = np.maximum(top, (probabilities > PRESENT).sum(axis=1)).clip(max=MAX_TOP)
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, : n_shown.max()]
    return [
        pb.Prediction(
            ranking=[pb.Ranked(label=labels[i], probability=row[i]) for i in order[:n].tolist()],
            unknown=bool(score < threshold),
            score=score,
        )
        if np.isfinite(row).all() and np.isfinite(score)
        else _failed(loaded)
        for row, order, n, score in zip(probabilities, best, n_shown.tolist(), known.tolist(), strict=True)
    ]


def _failed(loaded: LoadedHead) -> pb.Prediction:
    return failed(InferenceFailed(f"head {loaded.version} gives NaN or infinity for this item; train it again"))


def failed(error: Any) -> pb.Prediction:
    """Return what stands in the place of a prediction."""
    return pb.Prediction(error=item_status(error))


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
