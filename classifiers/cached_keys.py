"""A few labelled embeddings (the support), and class vectors where a backbone has text -> a cache that is asked."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from classifiers.embeddings import check_finite, unit_length
from classifiers.errors import InvalidOption
from classifiers.preparation import Preparation
from classifiers.score_classifier import ScoreClassifier


class CachedKeys(ScoreClassifier):
    """The training-free cache of Tip-Adapter (Zhang et al., ECCV 2022).

    Every example is a key, its label the value; a query's affinity to a key is `exp(-beta (1 - cos))`, and a class's
    score is `alpha` times the sum over its keys. Where the backbone embeds names of classes too, their cosine to the
    query is added, as CLIP scales it; a class that has a vector and no example yet is known by its vector alone.
    Without text there is no common origin, and keys and queries are centred on the support's mean first.

    Parameters
    ----------
    beta : float
        How fast affinity falls; positive. 5.5 is the paper's.
    alpha : float
        Weight of the keys beside the prior; positive.
    prior : mapping of label to array-like of shape (dim,), optional
        A vector for each class of the support, and for others if wanted: embedded names, as a rule.
    prior_scale : float
        Of the prior's cosines; 100 is CLIP's.
    temperature : float
        Scores are divided by it before the softmax of `predict_proba`.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Of the support and of the prior.
    keys_ : ndarray of shape (n, dim), float64
        Prepared.
    own_ : ndarray of shape (n,), int64
        Position in `classes_` of each key's class.
    """

    def __init__(
        self,
        *,
        beta: float = 5.5,
        alpha: float = 1.0,
        prior: Mapping[Any, ArrayLike] | None = None,
        prior_scale: float = 100.0,
        temperature: float = 1.0,
    ) -> None:
        self.beta = beta
        self.alpha = alpha
        self.prior = prior
        self.prior_scale = prior_scale
        self.temperature = temperature

    def _learn(self, X: NDArray[np.float64], own: NDArray[np.int64]) -> None:
        seen = self.classes_
        if self.prior is not None:
            self.prior_ = self._prior(X.shape[1], seen)
        centred = self.prior is None and len(seen) > 1  # of one class, centring would take away what it is known by
        self.preparation_ = Preparation.fit(X, "CL2N" if centred else "L2N")
        self.keys_ = self.preparation_(X)
        self.own_ = np.searchsorted(self.classes_, seen[own])

    def _score(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        affinity = np.exp(-self.beta * (1 - self.preparation_(X) @ self.keys_.T))
        scores: NDArray[np.float64] = self.alpha * affinity @ np.eye(len(self.classes_))[self.own_]
        if self.prior is not None:
            scores += self.prior_scale * unit_length(X) @ self.prior_.T
        return scores

    def _prior(self, dim: int, seen: NDArray[Any]) -> NDArray[np.float64]:
        """Take up the prior's classes; return their vectors (n_classes, dim), of unit length."""
        prior = self.prior or {}
        missing = [label for label in seen.tolist() if label not in prior]
        if missing:
            raise InvalidOption(f"prior has no vector for class {missing[0]!r}; give one for each class, or no prior")
        vectors = [np.asarray(vector, np.float64) for vector in prior.values()]
        wrong = next((one.shape for one in vectors if one.shape != (dim,)), None)
        if wrong is not None:
            raise InvalidOption(f"a vector of prior is {wrong}, and embeddings are ({dim},); embed both sides alike")
        check_finite(np.stack(vectors))
        self.classes_, first = np.unique(np.array(list(prior)), return_index=True)
        unit: NDArray[np.float64] = unit_length(np.stack(vectors)[first])
        return unit

    def _check_options(self) -> None:
        self._check_positive("beta", "alpha", "prior_scale", "temperature")
