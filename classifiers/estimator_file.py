"""A fitted estimator <-> the bytes of a skops file, made of nothing but what is trusted.

skops refuses types that are not named before anything is made. What is named is then looked at as a whole: libsvm
would read beyond the arrays of a machine whose parts do not fit together.
"""

import io
import zipfile
from typing import Any

import numpy as np
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.svm import SVC

from classifiers.errors import HeadInvalid

ESTIMATORS = (SVC, KNeighborsClassifier, KNeighborsRegressor)
TRUSTED = tuple(f"{one.__module__}.{one.__qualname__}" for one in ESTIMATORS)
MAX_BYTES = 4 << 30  # unpacked; votes of pairs and neighbours keep the rows that they need
KERNELS = ("linear", "poly", "rbf", "sigmoid")
METRICS = ("euclidean", "minkowski", "manhattan", "cosine")


def packed(estimator: Any) -> bytes:
    """Return the bytes of a fitted estimator; raises HeadInvalid for one that could not be read again."""
    from skops.io import dumps

    content: bytes = dumps(estimator, compression=zipfile.ZIP_DEFLATED, compresslevel=1)
    unpacked(content)
    return content


def unpacked(content: bytes) -> Any:
    """Return the estimator that bytes hold; raises HeadInvalid where they hold anything else."""
    from skops.io import get_untrusted_types, loads

    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            n_bytes = sum(one.file_size for one in archive.infolist())
        if n_bytes > MAX_BYTES:
            raise HeadInvalid(f"the estimator unpacks to {n_bytes:,} bytes, the limit is {MAX_BYTES:,}")
        foreign = sorted(set(get_untrusted_types(data=content)) - set(TRUSTED))
        if foreign:
            raise HeadInvalid(f"the estimator holds {', '.join(foreign)}, which no head is made of; it was not loaded")
        estimator = loads(content, trusted=list(TRUSTED))
        if type(estimator) not in ESTIMATORS:
            raise HeadInvalid(f"the estimator is a {type(estimator).__name__}, not one of {', '.join(TRUSTED)}")
        fits = _machine_fits(estimator) if isinstance(estimator, SVC) else _neighbours_fit(estimator)
    except HeadInvalid:
        raise
    except Exception as error:  # a damaged file fails in as many ways as it has bytes
        raise HeadInvalid(f"the file is no estimator ({type(error).__name__}: {error}); train the head again") from None
    if not fits:
        raise HeadInvalid(f"the parts of the {type(estimator).__name__} do not fit together; train the head again")
    return estimator


def _machine_fits(machine: SVC) -> bool:
    """Return whether libsvm reads no further than the arrays reach."""
    n_classes, (n_support, dim) = len(machine.classes_), machine.support_vectors_.shape
    own = np.asarray(machine._n_support)
    whole = {"support_": (n_support,), "_n_support": (n_classes,)}
    real = {
        "support_vectors_": (n_support, dim),
        "_dual_coef_": (n_classes - 1, n_support),
        "dual_coef_": (n_classes - 1, n_support),
        "_intercept_": (n_classes * (n_classes - 1) // 2,),
        "intercept_": (n_classes * (n_classes - 1) // 2,),
        "_probA": (0,),
        "_probB": (0,),
    }
    return bool(
        n_classes > 1
        and all(_is_array(machine, name, np.int32, shape) for name, shape in whole.items())
        and all(_is_array(machine, name, np.float64, shape) for name, shape in real.items())
        and (own >= 0).all()
        and int(own.sum()) == n_support
        and tuple(machine.shape_fit_)[1:] == (dim,) == (machine.n_features_in_,)
        and machine.kernel in KERNELS
        and machine._sparse is False
        and not machine._effective_probability
        and all(np.isfinite(float(getattr(machine, name))) for name in ("_gamma", "coef0", "degree"))
    )


def _neighbours_fit(neighbours: KNeighborsClassifier | KNeighborsRegressor) -> bool:
    """Return whether each neighbour has its label, and neighbours are sought by arrays alone."""
    X, y = neighbours._fit_X, neighbours._y
    fits = X.shape == (len(y), neighbours.n_features_in_) and 0 < neighbours.n_neighbors <= len(X)
    if isinstance(neighbours, KNeighborsClassifier):
        classes = neighbours.classes_ if isinstance(neighbours.classes_, list) else [neighbours.classes_]
        columns = y.reshape(len(X), -1).T
        fits &= len(columns) == len(classes) and all(
            column.dtype.kind == "i" and column.min() >= 0 and column.max() < len(one)
            for column, one in zip(columns, classes, strict=True)
        )
    known = neighbours._fit_method == "brute" and neighbours._tree is None
    return bool(fits and known and neighbours.effective_metric_ in METRICS and neighbours.metric in METRICS)


def _is_array(machine: SVC, name: str, dtype: type, shape: tuple[int, ...]) -> bool:
    array = getattr(machine, name)
    return isinstance(array, np.ndarray) and array.dtype == dtype and array.shape == shape
