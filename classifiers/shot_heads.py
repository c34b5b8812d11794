"""A few labelled embeddings (the support) -> regressions that need no search: ridge, and logistic with a kernel."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import KernelPCA
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.metrics.pairwise import rbf_kernel

from classifiers.embeddings import one_shot_is_enough
from classifiers.preparation import Preparation
from classifiers.score_classifier import ScoreClassifier
from classifiers.scorer import Kernel, estimator_scores

MAX_ITER = 500
MAX_LANDMARKS = 2000  # the kernel's eigenvectors cost their number cubed: about 2 s


class RidgeHead(ScoreClassifier):
    """Ridge regression on -1 and 1 for each class (Hoerl and Kennard, Technometrics, 1970), in closed form.

    As a head for few shots Bertinetto et al. (ICLR 2019) have it. Embeddings are brought to unit length, centred and
    scaled to a mean squared length of 1. Each class counts alike, however many examples it has.

    Parameters
    ----------
    alpha : float
        Strength of regularisation, positive.
    temperature : float
        Scores are divided by it before the softmax of `predict_proba`.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    model_ : RidgeClassifier
    """

    def __init__(self, *, alpha: float = 1.0, temperature: float = 0.3) -> None:
        self.alpha = alpha
        self.temperature = temperature

    def _learn(self, X: NDArray[np.float64], own: NDArray[np.int64]) -> None:
        self._check_two_classes()
        self.preparation_ = Preparation.fit(X)
        model = RidgeClassifier(alpha=self.alpha, class_weight="balanced")
        self.model_ = model.fit(self.preparation_(X), self.classes_[own])

    def _score(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        return estimator_scores(self.model_, self.preparation_(X))

    def _check_options(self) -> None:
        self._check_positive("alpha", "temperature")


class KernelLogistic(ScoreClassifier):
    """Multinomial logistic regression with an RBF kernel (Zhu and Hastie, "Import vector machine", 2005).

    On the kernel's principal components (Schölkopf, Smola and Müller, 1998), all of them, where it is the plain
    logistic regression of scikit-learn. Between nearest neighbours and a linear head, it is about as good as the
    better of the two. Embeddings are brought to unit length, centred and scaled to a mean squared length of 1, and
    components are again, so that one gamma and one C suit every backbone. Above 2,000 examples the components are
    those of 2,000 drawn at random (Williams and Seeger, "Using the Nyström method", NIPS 2000). Each class counts
    alike: how many examples were shown of it says little of how often it comes, and a new class would go unheard.

    Parameters
    ----------
    gamma : float
        Of the kernel, `exp(-gamma |x - s|²)`; positive. Towards 0 the head becomes linear. 0.5, like C, lost least
        beside the best of a grid in its worst row, on digits and clothing.
    C : float
        Inverse strength of regularisation, positive.
    tol : float
        Of the solver: largest gradient component at the end.
    temperature : float
        Scores are divided by it before the softmax of `predict_proba`. Examples that were held out ask for 0.5 to 0.8
        at 2 to 10 shots of photos and of texts.
    random_state : int or None
        Which examples are drawn, above 2,000.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    scorer_ : Kernel
        Components and regression as one: weighted sums of the kernel, for each class.
    """

    def __init__(
        self,
        *,
        gamma: float = 0.5,
        C: float = 10.0,
        tol: float = 1e-3,
        temperature: float = 0.6,
        random_state: int | None = 0,
    ) -> None:
        self.gamma = gamma
        self.C = C
        self.tol = tol
        self.temperature = temperature
        self.random_state = random_state

    def _learn(self, X: NDArray[np.float64], own: NDArray[np.int64]) -> None:
        self._check_two_classes()
        preparation = Preparation.fit(X)
        ready = preparation(X)
        landmarks = self._landmarks(ready)
        kernel = KernelPCA(kernel="rbf", gamma=self.gamma, eigen_solver="dense", remove_zero_eig=True).fit(landmarks)
        components = kernel.transform(ready)
        scale = float(np.sqrt((components**2).sum(axis=1).mean())) or 1.0
        if not components.shape[1]:  # examples are all alike
            components = np.zeros((len(ready), 1))
        model = LogisticRegression(C=self.C, max_iter=MAX_ITER, tol=self.tol, class_weight="balanced")
        with one_shot_is_enough():
            model.fit(components / scale, own)
        dual = _dual(kernel, model.coef_ / scale)
        bias = estimator_scores(model, components[:1] / scale) - rbf_kernel(ready[:1], landmarks, self.gamma) @ dual.T
        self.scorer_ = Kernel(preparation, landmarks, dual, bias[0], self.gamma)

    def _score(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        return self.scorer_.scores(X)

    def _landmarks(self, ready: NDArray[Any]) -> NDArray[Any]:
        if len(ready) <= MAX_LANDMARKS:
            return ready
        chosen = np.random.default_rng(self.random_state).choice(len(ready), MAX_LANDMARKS, replace=False)
        return ready[np.sort(chosen)]

    def _check_options(self) -> None:
        self._check_positive("gamma", "C", "tol", "temperature")


def _dual(kernel: KernelPCA, coef: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the weights (n_classes, n) of the kernel with each landmark that come to those of components."""
    if len(coef) == 1:  # of two classes the regression has one row, for the second
        coef = np.concatenate([-coef, coef]) / 2
    if not len(kernel.eigenvalues_):
        return np.zeros((len(coef), len(kernel.eigenvectors_)))
    weights = coef @ (kernel.eigenvectors_ / np.sqrt(kernel.eigenvalues_)).T
    centred: NDArray[np.float64] = weights - weights.mean(axis=1, keepdims=True)  # as is the kernel of components
    return centred
