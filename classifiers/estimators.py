"""A head's name and parameters, prepared embeddings and a target -> a scorer: the catalogue of estimators."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.svm import SVC, SVR, LinearSVC

from classifiers.columns import Columns
from classifiers.errors import InvalidOption, TooFewExamples
from classifiers.fewshot import NearestClassMean
from classifiers.head import KINDS, MULTI, REGRESSION, SINGLE
from classifiers.kernel import GAMMA, KernelMachine
from classifiers.preparation import Preparation
from classifiers.scorer import Fitted, Kernel, Layers, Scorer
from classifiers.target import Target

MAX_ITER = 1000
CACHE_MIB = 500  # of kernel rows, while a support vector machine is fitted


@dataclass(frozen=True)
class Method:
    """What the catalogue knows of a head.

    Parameters
    ----------
    grid : mapping of str to tuple
        A parameter's name and what is tried of it; the first of several goes slowest.
    default : mapping of str to Any
        What is taken where nothing can be tried, with few examples.
    kinds : tuple of str
        What it can learn.
    weighs : bool
        Whether it knows class weights.
    transformation : str
        How embeddings are prepared, unless a parameter says so.
    temperature : float
        What scores are divided by where too few examples are held out to fit a temperature.
    """

    grid: Mapping[str, tuple[Any, ...]]
    default: Mapping[str, Any]
    kinds: tuple[str, ...] = KINDS
    weighs: bool = False
    transformation: str = "SCALED"
    temperature: float = 1.0


LABELS = (SINGLE, MULTI)
METHODS: Mapping[str, Method] = {
    "logistic": Method({"C": (0.1, 1.0, 10.0, 100.0)}, {"C": 10.0}, LABELS, weighs=True),
    "linear-svm": Method({"C": (0.01, 0.1, 1.0, 10.0)}, {"C": 1.0}, weighs=True),
    "rbf-svm": Method({"C": (1.0, 3.0, 10.0)}, {"C": 10.0}, weighs=True),
    # Each pair of classes votes: more recall where one class is "anything else", but votes make poor probabilities.
    "rbf-svm-pairs": Method({"C": (1.0, 3.0, 10.0)}, {"C": 10.0}, (SINGLE,), weighs=True),
    "ridge": Method({"alpha": (0.01, 0.1, 1.0, 10.0)}, {"alpha": 1.0}, weighs=True),
    "knn": Method({"n_neighbors": (1, 3, 5, 10, 20)}, {"n_neighbors": 1}),
    # Squared distances over 0.15 are what NearestClassMean takes, on unit length.
    "ncm": Method({"transformation": ("UN", "L2N", "CL2N")}, {"transformation": "CL2N"}, LABELS, temperature=0.15),
    "lda": Method({}, {}, LABELS),
    "network": Method({"hidden": (128,), "dropout": (0.5,)}, {"hidden": 128, "dropout": 0.5}, weighs=True),
}
AUTO = {SINGLE: ("logistic", "rbf-svm"), MULTI: ("logistic", "rbf-svm"), REGRESSION: ("ridge", "rbf-svm")}
FEW_SHOT = {SINGLE: "logistic", MULTI: "logistic", REGRESSION: "ridge"}


@dataclass(frozen=True)
class Candidate:
    """A head of the catalogue, and its parameters."""

    head: str
    params: Mapping[str, Any] = field(default_factory=dict)

    @property
    def transformation(self) -> str:
        """How embeddings are prepared for it."""
        return str(self.params.get("transformation", METHODS[self.head].transformation))

    def __str__(self) -> str:
        return " ".join(
            [
                self.head,
                *(
                    f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"
                    for name, value in self.params.items()
                ),
            ]
        )


@dataclass(frozen=True)
class Setting:
    """What all candidates of a search have in common.

    Parameters
    ----------
    kind : {'single', 'multi', 'regression'}
    n_outputs : int
    class_weight : dict of int to float, 'balanced' or None
        By position of the class.
    random_state : int or None
    n_jobs : int
        Threads of one fit.
    """

    kind: str
    n_outputs: int
    class_weight: Any = None
    random_state: int | None = None
    n_jobs: int = 1


def check_head(name: str, kind: str, class_weight: Any = None) -> None:
    """Refuse a head that is not in the catalogue, or that cannot do what is asked of it.

    Raises
    ------
    InvalidOption
        It names the heads that can.
    """
    if name not in METHODS:
        raise InvalidOption(f"head is {name!r}, not one of auto, {', '.join(METHODS)}")
    if kind not in METHODS[name].kinds:
        able = [one for one, method in METHODS.items() if kind in method.kinds]
        raise InvalidOption(f"head {name!r} learns no {kind}; take one of {', '.join(able)}")
    if class_weight is not None and kind == REGRESSION:
        raise InvalidOption("class_weight is given, and a regression has no classes; leave it away")
    if class_weight is not None and not METHODS[name].weighs:
        able = [one for one, method in METHODS.items() if method.weighs]
        raise InvalidOption(f"head {name!r} knows no class weights; take one of {', '.join(able)}")


def candidates_of(name: str) -> tuple[Candidate, ...]:
    """Return the grid of a head of the catalogue."""
    params: list[dict[str, Any]] = [{}]
    for parameter, values in METHODS[name].grid.items():
        params = [{**one, parameter: value} for one in params for value in values]
    return tuple(Candidate(name, one) for one in params)


def fit_scorer(
    candidate: Candidate,
    X: NDArray[Any],
    values: NDArray[Any],
    setting: Setting,
    preparation: Preparation | None = None,
) -> Scorer:
    """Fit a candidate on prepared embeddings.

    Parameters
    ----------
    X : ndarray of shape (n, dim), float
        Prepared.
    values : ndarray
        As in `Target`; of one label all of 0 … n_outputs - 1 are there.
    preparation : Preparation, optional
        What the scorer does to embeddings first; by default nothing, so that it takes prepared ones.

    """
    estimator = unfitted(candidate, setting, n_rows=len(X)).fit(X, values)
    return as_scorer(estimator, preparation or Preparation("UN", np.zeros(X.shape[1])), setting.n_outputs)


def unfitted(candidate: Candidate, setting: Setting, *, n_rows: int) -> Any:
    """Return the candidate's estimator, which takes prepared embeddings and the values of a target.

    Raises
    ------
    TooFewExamples
        It needs more than `n_rows` examples.
    """
    make: Callable[..., Any] = _MAKERS[candidate.head]
    estimator = make(setting, n_rows=n_rows, **candidate.params)
    alone = candidate.head in ("knn", "network", "rbf-svm") or (
        setting.kind == REGRESSION and candidate.head == "ridge"
    )
    return estimator if setting.kind == SINGLE or alone else Columns(estimator)


def weights_of(class_weight: Any, learnt: NDArray[np.int64]) -> Any:
    """Return the weights of some classes, by their position among these."""
    if not isinstance(class_weight, dict):
        return class_weight
    return {position: class_weight[own] for position, own in enumerate(learnt.tolist())}


def weights_by_position(class_weight: Any, target: Target, *, strict: bool = True) -> Any:
    """Return weights by label as weights by position; 1 where a label has none.

    Raises
    ------
    InvalidOption
        Weights that are not positive, or of a label that there is not.
    """
    if class_weight is None or (isinstance(class_weight, str) and class_weight == "balanced"):
        return class_weight
    if not isinstance(class_weight, Mapping) or target.kind != SINGLE:
        raise InvalidOption(
            f"class_weight is {class_weight!r}; take 'balanced', None, or of one label a weight by label"
        )
    foreign = sorted(set(class_weight) - set(target.classes.tolist()), key=str)
    if foreign and strict:
        raise InvalidOption(f"class_weight has {foreign[0]!r}, and no example is labelled so; leave it out")
    weights = {i: float(class_weight.get(label, 1)) for i, label in enumerate(target.classes.tolist())}
    if not all(0 < weight < np.inf for weight in weights.values()):
        raise InvalidOption(f"class_weight is {class_weight!r}; take positive numbers")
    return weights


def as_scorer(estimator: Any, preparation: Preparation, n_outputs: int) -> Scorer:
    """Return a fitted estimator as what is kept and served: arrays where it is linear or a network."""
    if hasattr(estimator, "weights_"):
        return Layers(preparation, estimator.weights_, estimator.biases_)
    if isinstance(estimator, SVC | KNeighborsClassifier | KNeighborsRegressor):
        return Fitted(preparation, estimator, n_outputs)
    if isinstance(estimator, KernelMachine):
        dual, bias = _of_both(estimator.dual_, estimator.intercept_, n_outputs)
        return Kernel(preparation, estimator.support_vectors_, dual, bias, GAMMA)
    weight, bias = _of_both(*_affine(estimator, preparation.dim), n_outputs)
    return Layers(preparation, (weight,), (bias,))


def _of_both(
    weight: NDArray[np.float64], bias: NDArray[np.float64], n_outputs: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return rows for each of two classes, where there is one for the margin of the second: half of it for each."""
    if len(bias) == 1 and n_outputs == 2:
        return np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    return weight, bias


def _affine(estimator: Any, dim: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return weights (n, dim) and biases (n,) of a linear estimator's margins or values."""
    if isinstance(estimator, float):
        return np.zeros((1, dim)), np.array([estimator])
    if isinstance(estimator, Columns):
        parts = [_affine(one, dim) for one in estimator.estimators_]
        # Of two means the second's lead is what tells whether a label is there.
        parts = [(w[1:] - w[:1], b[1:] - b[:1]) if len(b) == 2 else (w, b) for w, b in parts]
        return np.concatenate([w for w, _ in parts]), np.concatenate([b for _, b in parts])
    if isinstance(estimator, NearestClassMean):  # -|x - m|² = 2 x·m - |m|², but for what all classes share
        return 2 * estimator.means_, -(estimator.means_**2).sum(axis=1)
    weight = np.atleast_2d(np.asarray(estimator.coef_, np.float64))
    return weight, np.broadcast_to(np.atleast_1d(estimator.intercept_).astype(np.float64), len(weight)).copy()


def _logistic(setting: Setting, *, n_rows: int, C: float) -> Any:
    return LogisticRegression(C=C, class_weight=setting.class_weight, max_iter=MAX_ITER)


def _linear_svm(setting: Setting, *, n_rows: int, C: float) -> Any:
    if setting.kind == REGRESSION:
        return SVR(kernel="linear", C=C, cache_size=CACHE_MIB)
    # In the primal: the dual's coordinate descent took 32 s where this takes 1.
    weight, seed = setting.class_weight, setting.random_state
    return LinearSVC(C=C, class_weight=weight, dual=False, tol=1e-3, max_iter=MAX_ITER, random_state=seed)


def _rbf_svm(setting: Setting, *, n_rows: int, C: float) -> Any:
    return KernelMachine(kind=setting.kind, C=C, class_weight=setting.class_weight, n_jobs=setting.n_jobs)


def _rbf_svm_pairs(setting: Setting, *, n_rows: int, C: float) -> Any:
    return SVC(C=C, gamma=GAMMA, class_weight=setting.class_weight, cache_size=CACHE_MIB)


def _ridge(setting: Setting, *, n_rows: int, alpha: float) -> Any:
    return Ridge(alpha) if setting.kind == REGRESSION else RidgeClassifier(alpha, class_weight=setting.class_weight)


def _knn(setting: Setting, *, n_rows: int, n_neighbors: int) -> Any:
    # Brute force keeps plain arrays, and above some ten dimensions no tree is faster.
    kind = KNeighborsRegressor if setting.kind == REGRESSION else KNeighborsClassifier
    return kind(min(n_neighbors, n_rows), weights="distance", algorithm="brute")


def _ncm(setting: Setting, *, n_rows: int, transformation: str) -> Any:
    return NearestClassMean(transformation="UN")  # what it is given is prepared already


def _lda(setting: Setting, *, n_rows: int) -> Any:
    least = (setting.n_outputs if setting.kind == SINGLE else 2) + 1
    if n_rows < least:
        raise TooFewExamples(f"lda needs at least {least} examples of {least - 1} classes, not {n_rows}; take 'ncm'")
    return LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")


def _network(setting: Setting, *, n_rows: int, hidden: int, dropout: float) -> BaseEstimator:
    from classifiers.network import Network

    weight, seed = setting.class_weight, setting.random_state
    return Network(kind=setting.kind, hidden=hidden, dropout=dropout, class_weight=weight, random_state=seed)


_MAKERS: Mapping[str, Callable[..., Any]] = {
    "logistic": _logistic,
    "linear-svm": _linear_svm,
    "rbf-svm": _rbf_svm,
    "rbf-svm-pairs": _rbf_svm_pairs,
    "ridge": _ridge,
    "knn": _knn,
    "ncm": _ncm,
    "lda": _lda,
    "network": _network,
}
