"""A fitted estimator of scikit-learn and prepared embeddings (n, dim) -> its scores (n, n_outputs), as ONNX nodes.

skl2onnx would write ai.onnx.ml's operators, which compute in float32: their votes and margins stand further from
scikit-learn's than a head's answer may. A kernel is a MatMul and an Exp, and neighbours are a TopK, both in double.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from classifiers.scorer import LEAST_VOTE
from headwater.errors import HeadNotExported
from headwater.onnx_head.nodes import DOUBLE, Nodes

KERNELS = ("linear", "poly", "rbf", "sigmoid")


class KernelFunction(NamedTuple):
    """What a support vector machine compares rows by, in libsvm's words."""

    name: str
    gamma: float = 0.0
    coef0: float = 0.0
    degree: int = 0


def add_estimator(nodes: Nodes, estimator: Any, rows: str) -> str:
    """Add what `classifiers.scorer.estimator_scores` computes and return it, (n, n_outputs), double.

    Raises
    ------
    HeadNotExported
        The estimator, its kernel or its metric has no graph here.
    """
    match type(estimator).__name__:
        case "SVC" if len(estimator.classes_) > 2:
            return _add_votes(nodes, estimator, rows)
        case "SVC":
            return _add_margin(nodes, estimator, rows)
        case "KNeighborsClassifier":
            return _add_log_votes(nodes, estimator, rows)
        case "KNeighborsRegressor":
            return _add_neighbours(nodes, estimator, rows, np.asarray(estimator._y, np.float64))
    raise HeadNotExported(f"a {type(estimator).__name__} cannot be written as ONNX; train a head of another estimator")


# Support vector machines.


def _add_margin(nodes: Nodes, estimator: Any, rows: str) -> str:
    """Return (-m / 2, m / 2) of the margin m of two classes, (n, 2)."""
    similarity = add_kernel(nodes, _kernel(estimator), rows, np.asarray(estimator.support_vectors_, np.float64))
    weighted = nodes.add("MatMul", similarity, nodes.double(np.asarray(estimator.dual_coef_, np.float64).T))
    margin = nodes.add("Add", weighted, nodes.double(np.asarray(estimator.intercept_, np.float64)))
    return nodes.add("Mul", margin, nodes.double(np.array([-0.5, 0.5])))


def _kernel(estimator: Any) -> KernelFunction:
    if estimator._sparse or estimator.kernel not in KERNELS:
        raise HeadNotExported(f"kernel {estimator.kernel!r} cannot be written as ONNX, only {', '.join(KERNELS)}")
    return KernelFunction(estimator.kernel, float(estimator._gamma), float(estimator.coef0), int(estimator.degree))


def add_kernel(nodes: Nodes, kernel: KernelFunction, rows: str, vectors: NDArray[np.float64]) -> str:
    """Return how alike rows and vectors are, (n, n_vectors)."""
    kept = nodes.double(vectors)
    products = nodes.add("MatMul", rows, nodes.add("Transpose", kept, perm=[1, 0]))
    if kernel.name == "linear":
        return products
    if kernel.name == "rbf":
        squares = nodes.sum(nodes.add("Mul", rows, rows), 1, keepdims=1)
        distances = nodes.add("Add", squares, _add_to_vectors(nodes, products, vectors))
        return nodes.add("Exp", nodes.add("Mul", distances, nodes.double(-kernel.gamma)))
    scaled = nodes.add("Mul", products, nodes.double(kernel.gamma))
    shifted = nodes.add("Add", scaled, nodes.double(kernel.coef0))
    if kernel.name == "sigmoid":
        return nodes.add("Tanh", shifted)
    return nodes.add("Pow", shifted, nodes.double(float(kernel.degree)))


def _add_to_vectors(nodes: Nodes, products: str, vectors: NDArray[np.float64]) -> str:
    """Return squared distances to vectors less the rows' own squares, (n, n_vectors), of their products with them."""
    twice = nodes.add("Mul", products, nodes.double(-2.0))
    return nodes.add("Add", twice, nodes.double((vectors**2).sum(axis=1)))


def _add_votes(nodes: Nodes, estimator: Any, rows: str) -> str:
    """Return what scikit-learn makes of libsvm's one-vs-one margins: votes, and confidences that break their ties.

    Margins stand in a matrix (n, n_classes, n_classes), symmetric, positive where the class that comes first wins.
    A vector of class i has a weight for each other class j, so that the sum over its own vectors is a MatMul for each
    class, with its vectors filled up to as many as the largest has: no weight is kept for a pair that it is not in.
    """
    if estimator.decision_function_shape != "ovr":
        raise HeadNotExported("an SVC with decision_function_shape='ovo' has a score a pair, not a class; take 'ovr'")
    n_classes, counts = len(estimator.classes_), np.asarray(estimator.n_support_)
    similarity = add_kernel(nodes, _kernel(estimator), rows, np.asarray(estimator.support_vectors_, np.float64))
    position, weights = _of_classes(estimator.dual_coef_, counts)
    of_classes = nodes.add("Transpose", nodes.add("Gather", similarity, nodes.int64(position), axis=1), perm=[1, 0, 2])
    halves = nodes.add("MatMul", of_classes, nodes.double(weights))  # (n_classes, n, n_classes)
    own, other = (nodes.add("Transpose", halves, perm=perm) for perm in ([1, 0, 2], [1, 2, 0]))
    first = np.triu(np.ones((n_classes, n_classes), bool), 1)
    intercepts = np.zeros((n_classes, n_classes))
    intercepts[first] = estimator.intercept_
    margins = nodes.add("Add", nodes.add("Add", own, other), nodes.double(intercepts + intercepts.T))
    loses = nodes.add("Less", margins, nodes.double(0.0))
    wins = nodes.add("And", nodes.add("Xor", loses, nodes.bool(first)), nodes.bool(~np.eye(n_classes, dtype=bool)))
    votes = nodes.sum(nodes.cast(wins, DOUBLE), 2)
    confidence = nodes.sum(nodes.add("Mul", margins, nodes.double(first.astype(float) - first.T)), 2)
    least = nodes.add("Add", nodes.add("Abs", confidence), nodes.double(1.0))
    return nodes.add("Add", votes, nodes.add("Div", confidence, nodes.add("Mul", least, nodes.double(3.0))))


def _of_classes(dual_coef: NDArray[np.float64], counts: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return each class's vectors, (n_classes, most), and their weights against each, (n_classes, most, n_classes).

    libsvm leaves the own class out: (n_classes - 1, n_vectors), in the order of classes.
    """
    n_classes, most = len(counts), int(counts.max())
    position = np.zeros((n_classes, most), np.int64)  # filled up with the first vector, of weight 0
    weights = np.zeros((n_classes, most, n_classes))
    for i, (start, count) in enumerate(zip(np.cumsum(counts) - counts, counts, strict=True)):
        position[i, :count] = np.arange(start, start + count)
        weights[i, :count] = np.insert(dual_coef[:, start : start + count], i, 0, axis=0).T
    return position, weights


# Nearest neighbours.


def _add_log_votes(nodes: Nodes, estimator: Any, rows: str) -> str:
    """Return the logarithm of each class's share of the neighbours, or of several labels its log-odds."""
    several = estimator.outputs_2d_
    table = _labels(estimator) if several else np.eye(len(estimator.classes_))[np.asarray(estimator._y)]
    share = _add_neighbours(nodes, estimator, rows, table)
    most = 1 - LEAST_VOTE if several else 1.0
    shares = nodes.add("Min", nodes.add("Max", share, nodes.double(LEAST_VOTE)), nodes.double(most))
    if not several:
        return nodes.add("Log", shares)
    return nodes.add("Log", nodes.add("Div", shares, nodes.add("Sub", nodes.double(1.0), shares)))


def _labels(estimator: Any) -> NDArray[np.float64]:
    """Return what each example has of each label, (n_examples, n_labels); where all agree, what they all have."""
    columns = [
        own == 1 if len(classes) == 2 else np.full(len(own), float(classes[0]))
        for classes, own in zip(estimator.classes_, np.asarray(estimator._y).T, strict=True)
    ]
    return np.stack(columns, axis=1).astype(np.float64)


def _add_neighbours(nodes: Nodes, estimator: Any, rows: str, table: NDArray[np.float64]) -> str:
    """Return the mean of a table (n_examples,) or (n_examples, n_outputs) over neighbours, (n, n_outputs)."""
    if estimator.effective_metric_ != "euclidean" or estimator.weights not in (None, "uniform", "distance"):
        raise HeadNotExported(
            f"neighbours by {estimator.effective_metric_} with weights {estimator.weights!r} cannot be written as "
            "ONNX; take Euclidean distances and weights 'uniform' or 'distance'"
        )
    examples = np.asarray(estimator._fit_X, np.float64)
    kept = nodes.double(examples)
    products = nodes.add("MatMul", rows, nodes.add("Transpose", kept, perm=[1, 0]))
    ranked, k = _add_to_vectors(nodes, products, examples), nodes.int64([estimator.n_neighbors])
    _, nearest = nodes.add_many("TopK", ranked, k, n_outputs=2, axis=1, largest=0)
    outputs = table[:, np.newaxis] if table.ndim == 1 else table
    found = nodes.add("Gather", nodes.double(outputs), nearest, axis=0)  # (n, n_neighbors, n_outputs)
    if estimator.weights != "distance":
        return nodes.add("ReduceMean", found, nodes.int64([1]), keepdims=0)
    weights = _add_weights(nodes, rows, nodes.add("Gather", kept, nearest, axis=0))
    total = nodes.sum(weights, 1)
    return nodes.add("Div", nodes.sum(nodes.add("Mul", found, weights), 1), total)


def _add_weights(nodes: Nodes, rows: str, neighbours: str) -> str:
    """Return one over the distance to each neighbour, (n, n_neighbors, 1); where some are at 0, only those have any.

    Distances are taken anew, each by itself: only so is that of an example to itself 0.
    """
    apart = nodes.add("Sub", nodes.add("Unsqueeze", rows, nodes.int64([1])), neighbours)
    distances = nodes.add("Sqrt", nodes.sum(nodes.add("Mul", apart, apart), 2, keepdims=1))
    zero, one = nodes.double(0.0), nodes.double(1.0)
    same = nodes.cast(nodes.add("Equal", distances, zero), DOUBLE)
    any_same = nodes.add("Greater", nodes.add("ReduceMax", same, nodes.int64([1]), keepdims=1), zero)
    inverse = nodes.add("Div", one, nodes.add("Add", distances, same))
    return nodes.add("Where", any_same, same, inverse)
