"""Embeddings with labels -> a head on disk, with what it should be expected to do."""

import importlib.metadata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from classifiers.persist import Manifest, save_head
from headwater.labelled import Label

LIBRARIES = ("headwater", "numpy", "scikit-learn")


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where embeddings come from.

    Parameters
    ----------
    backbone, fingerprint : str
    items : sequence of str
        Keys of the items (`extractor.cache.item_key`), in hexadecimal digits, in their order.
    """

    backbone: str
    fingerprint: str
    items: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a head is trained; see `classifiers.train`.

    Parameters
    ----------
    head : str
        `auto`, or the name of an estimator.
    seed : int
        How examples are dealt to folds.
    """

    head: str = "auto"
    seed: int = 0


Progress = Callable[[int, int, str], object]  # steps done, steps in all, what is done now


def train_head(
    folder: Path,
    X: ArrayLike,
    y: Sequence[Label],
    origin: Origin,
    options: Options = Options(),
    *,
    progress: Progress | None = None,
) -> Manifest:
    """Train a logistic-regression head, estimate its accuracy by cross-validation, and keep it.

    Parameters
    ----------
    folder : Path
        The head's.
    X : array-like of shape (n, dim), float32
    y : sequence of str, of tuple of str, or of float, (n,)
    origin : Origin
    options : Options
    progress : callable, optional
        Called with (steps done, steps in all, what is done now).

    Returns
    -------
    Manifest
        With `cv_accuracy` and `cv_folds` among its metrics, where the smallest class has two examples or more.

    Raises
    ------
    ClassifierError
        The examples cannot be learnt from: a single class, values that are not finite.
    OSError
        The folder cannot be written.
    """
    from classifiers.heads import LogisticHead

    report, seed = progress or (lambda *_: None), options.seed
    embeddings, labels = np.asarray(X), np.asarray(y)
    report(0, 2, "fitting")
    head = LogisticHead(random_state=seed).fit(embeddings, labels)
    report(1, 2, "measuring")
    manifest = Manifest(
        backbone=origin.backbone,
        fingerprint=origin.fingerprint,
        dim=embeddings.shape[1],
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        metrics=_expected(head.C_, embeddings, labels, seed),
        options={"estimator": "LogisticHead", "C": head.C_, "random_state": seed},
        items=tuple(origin.items),
        versions={name: importlib.metadata.version(name) for name in LIBRARIES},
    )
    save_head(folder, head.head(), manifest)
    report(2, 2, "kept")
    return manifest


def _expected(C: float, X: np.ndarray, y: np.ndarray, seed: int) -> dict[str, float]:
    """Return accuracy on held-out folds, with the C that was chosen; nothing where a class has a single example."""
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    from classifiers.heads import LogisticHead

    folds = min(5, *Counter(y.tolist()).values())
    if folds < 2:
        return {}
    dealt = StratifiedKFold(folds, shuffle=True, random_state=seed)
    scores = cross_val_score(LogisticHead(Cs=(C,), random_state=seed), X, y, cv=dealt)
    return {"cv_accuracy": float(scores.mean()), "cv_folds": float(folds)}
