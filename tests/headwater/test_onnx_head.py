"""Heads as ONNX graphs, in real onnxruntime, against the heads themselves."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.svm import SVC

from classifiers.estimators import METHODS
from classifiers.head import MULTI, REGRESSION, SINGLE, Calibration, Head, Rejection
from classifiers.heads import LogisticHead
from classifiers.persist import Manifest, save_head
from classifiers.preparation import TRANSFORMATIONS, Preparation
from classifiers.scorer import Fitted, Layers
from classifiers.train import train
from headwater.errors import HeadNotExported, OutputNotWritable
from headwater.onnx_head import export
from headwater.onnx_head.export import export_head
from headwater.onnx_head.graph import head_graph
from headwater.onnx_head.proof import answers, check, differences, proof_rows, prove

TOLERANCE = 1e-5
DIM = 12
MANIFEST = Manifest(backbone="tiny", fingerprint="ab" * 16, dim=DIM, created="2026-01-31T12:00:00+00:00")
RANDOM = np.random.default_rng(0)
X = (RANDOM.normal(size=(90, DIM)) + 0.3).astype(np.float32)
QUERIES = (RANDOM.normal(size=(40, DIM)) + 0.3).astype(np.float32)
LABELS = X[:, :4].argmax(axis=1)
SEVERAL = np.stack([X[:, 0] > 0, X[:, 1] > 1, np.ones(len(X), bool)], axis=1).astype(int)
VALUES = X[:, :2].astype(np.float64) * 30 + 7


def session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def calibration(n: int) -> Calibration:
    return Calibration(RANDOM.uniform(0.5, 3, n), RANDOM.normal(size=n))


def fitted(estimator: BaseEstimator, y: np.ndarray, kind: str, transformation: str) -> Head:
    preparation = Preparation.fit(X, transformation)
    n = y.shape[1] if y.ndim == 2 else 1 if kind == REGRESSION else len(np.unique(y))
    scorer = Fitted(preparation, estimator.fit(preparation(X), y), n)
    rejection = None if kind == REGRESSION else Rejection("confidence", 0.5, "by hand")
    return Head(kind, np.arange(n), scorer, Calibration.none(n) if kind == REGRESSION else calibration(n), rejection)


def layers(kind: str, transformation: str, *, hidden: int = 0, score: str = "energy") -> Head:
    widths = [DIM, *([hidden] if hidden else []), 3]
    weights = tuple(RANDOM.normal(size=shape) for shape in zip(widths[1:], widths[:-1], strict=True))
    biases = tuple(RANDOM.normal(size=n) for n in widths[1:])
    scorer = Layers(Preparation.fit(X, transformation), weights, biases)
    rejection = None if kind == REGRESSION else Rejection(score, 0.6, "by hand")
    return Head(kind, np.array(["a", "b", "ü"]), scorer, calibration(3), rejection)


ESTIMATORS: list[tuple[Any, np.ndarray, str]] = [
    (SVC(C=10.0), LABELS, SINGLE),
    (SVC(C=10.0), LABELS > 1, SINGLE),
    (SVC(kernel="linear"), LABELS, SINGLE),
    (SVC(kernel="poly", degree=2, coef0=1.0), LABELS > 1, SINGLE),
    (SVC(kernel="sigmoid"), LABELS, SINGLE),
    (KNeighborsClassifier(5), LABELS, SINGLE),
    (KNeighborsClassifier(4, weights="distance", algorithm="brute"), LABELS > 1, SINGLE),
    (KNeighborsClassifier(5), SEVERAL, MULTI),
    (KNeighborsClassifier(3, weights="distance"), SEVERAL, MULTI),
    (KNeighborsRegressor(3), VALUES[:, 0], REGRESSION),
    (KNeighborsRegressor(3, weights="distance"), VALUES, REGRESSION),
]


def assert_equal(head: Head, rows: np.ndarray) -> None:
    """Compare by arithmetic of the test's own, on rows of which none is a tie."""
    found = answers(session(head_graph(head)), {"embedding": rows})
    if head.kind == REGRESSION:
        np.testing.assert_allclose(found["values"], head.predict(rows), atol=TOLERANCE, rtol=TOLERANCE)
        assert list(found) == ["values"]
        return
    np.testing.assert_allclose(found["probabilities"], head.predict_proba(rows), atol=TOLERANCE, rtol=0)
    if head.kind == SINGLE:
        np.testing.assert_array_equal(head.classes_[found["label"]], head.predict(rows))
    else:
        np.testing.assert_array_equal(found["labels"], head.predict(rows))
    if head.rejection:
        np.testing.assert_allclose(found["known"], head.knowing(head.scores(rows)), atol=TOLERANCE, rtol=TOLERANCE)
        np.testing.assert_array_equal(found["unknown"], head.is_unknown(rows))
    dtypes = {"probabilities": "float32", "label": "int64", "labels": "bool", "known": "float32", "unknown": "bool"}
    assert {name: str(array.dtype) for name, array in found.items()} == {name: dtypes[name] for name in found}


@pytest.mark.parametrize("transformation", TRANSFORMATIONS)
@pytest.mark.parametrize("kind", [SINGLE, MULTI, REGRESSION])
@pytest.mark.parametrize("hidden", [0, 8])
def test_layers_are_the_head(kind: str, transformation: str, hidden: int) -> None:
    for score in ("confidence", "energy"):
        head = layers(kind, transformation, hidden=hidden, score=score)
        assert_equal(head, QUERIES)
        assert prove(session(head_graph(head)), head) <= TOLERANCE


@pytest.mark.parametrize("transformation", TRANSFORMATIONS)
@pytest.mark.parametrize(("estimator", "y", "kind"), ESTIMATORS, ids=range(len(ESTIMATORS)))
def test_fitted_estimators_are_the_head(estimator: Any, y: np.ndarray, kind: str, transformation: str) -> None:
    head = fitted(estimator, y, kind, transformation)
    assert_equal(head, QUERIES)
    assert_equal(head, X[::7])  # a neighbour's distance to itself is 0
    assert prove(session(head_graph(head)), head) <= TOLERANCE


QUICK = [name for name in METHODS if name != "network"]  # which is layers, as above
TRAINED = [
    *((name, LABELS, SINGLE) for name in QUICK),
    *((name, SEVERAL[:, :2], MULTI) for name in QUICK if MULTI in METHODS[name].kinds),
    *((name, VALUES, REGRESSION) for name in QUICK if REGRESSION in METHODS[name].kinds),
]


@pytest.mark.parametrize(("name", "y", "kind"), TRAINED, ids=[f"{name}-{kind}" for name, _, kind in TRAINED])
def test_whatever_is_trained_has_a_graph(name: str, y: np.ndarray, kind: str) -> None:
    classes = None if kind == SINGLE else ["a", "b"]
    head = train(X, y, head=name, kind=kind, classes=classes, reject=None, cv=2, n_jobs=1).head
    assert_equal(head, QUERIES)
    assert prove(session(head_graph(head)), head) <= TOLERANCE


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    dim=st.integers(1, 9),
    n_classes=st.integers(2, 5),
    hidden=st.sampled_from([0, 1, 4]),
    size=st.sampled_from([1e-3, 1.0, 20.0]),
    transformation=st.sampled_from(TRANSFORMATIONS),
    kind=st.sampled_from([SINGLE, MULTI, REGRESSION]),
)
def test_random_heads_are_what_their_graphs_are(
    seed: int, dim: int, n_classes: int, hidden: int, size: float, transformation: str, kind: str
) -> None:
    random = np.random.default_rng(seed)
    center = random.uniform(-1, 1, dim) / np.sqrt(dim)
    preparation = Preparation(transformation, center, float(random.uniform(0.05, 1)))
    widths = [dim, *([hidden] if hidden else []), n_classes]
    weights = tuple(size * random.normal(size=shape) for shape in zip(widths[1:], widths[:-1], strict=True))
    scorer = Layers(preparation, weights, tuple(random.normal(size=n) for n in widths[1:]))
    calibrated = Calibration(random.uniform(0.1, 5, n_classes), random.normal(size=n_classes))
    threshold = float(random.uniform(0.2, 0.9))
    rejection = Rejection(("confidence", "energy")[seed % 2], threshold, "") if kind != REGRESSION else None
    head = Head(kind, np.arange(n_classes), scorer, calibrated, rejection)
    assert prove(session(head_graph(head)), head) <= TOLERANCE


def test_rows_at_the_center_have_no_direction() -> None:
    center = np.full(DIM, DIM**-0.5)  # of unit length: all embeddings were alike
    scorer = Layers(Preparation("CL2N", center), (RANDOM.normal(size=(3, DIM)),), (np.array([0.0, 1.0, 2.0]),))
    head = Head(SINGLE, np.arange(3), scorer, Calibration.none(3))
    rows = np.array([[1e-30], [1.0], [1e30]], np.float32) * np.ones((3, DIM), np.float32)
    found = answers(session(head_graph(head)), {"embedding": rows})
    np.testing.assert_allclose(found["probabilities"], head.predict_proba(rows), atol=TOLERANCE)
    np.testing.assert_array_equal(found["probabilities"][0], found["probabilities"][2])
    assert prove(session(head_graph(head)), head) <= TOLERANCE


def test_the_batch_axis_varies_and_all_sizes_agree() -> None:
    graph = session(head_graph(fitted(SVC(), LABELS, SINGLE, "SCALED")))
    assert graph.get_inputs()[0].shape == ["batch", DIM]
    whole = answers(graph, {"embedding": QUERIES})["probabilities"]
    for size in (1, 7, 32):
        part = answers(graph, {"embedding": QUERIES[:size]})["probabilities"]
        np.testing.assert_allclose(part, whole[:size], atol=1e-6)


def test_proof_rows_are_of_all_kinds() -> None:
    rows = proof_rows(layers(SINGLE, "CL2N"))
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1)
    assert np.isfinite(rows).all()
    assert lengths.min() == 0
    assert 0 < lengths[lengths > 0].min() < 1e-44
    assert lengths.max() > 1e38


@pytest.mark.parametrize("node", ["Softmax", "MatMul", "Sub"])
def test_a_graph_that_is_not_the_head_is_told(node: str) -> None:
    head = layers(SINGLE, "SCALED", hidden=8)
    model = head_graph(head)
    one = next(one for one in model.graph.node if one.op_type == node)
    if node == "Softmax":
        one.op_type = "LogSoftmax"
    elif node == "Sub":
        one.op_type = "Add"
    else:
        weight = next(each for each in model.graph.initializer if list(each.dims) == [DIM, 8])
        array = onnx.numpy_helper.to_array(weight) * (1 + 1e-3)
        weight.CopyFrom(onnx.numpy_helper.from_array(array, weight.name))
    with pytest.raises(HeadNotExported, match=r"differs from the head on \d+ of \d+ rows.*1e-05.*nothing was written"):
        prove(session(model), head)


def test_a_tie_of_neighbours_is_nobodys_mistake_and_too_many_are_told() -> None:
    preparation = Preparation.fit(X, "UN")
    same = np.tile(X[:4], (2, 1))  # each twice, with another label
    estimator = KNeighborsClassifier(1).fit(same, [0] * 4 + [1] * 4)
    head = Head(SINGLE, np.arange(2), Fitted(preparation, estimator, 2), Calibration.none(2))
    opposite = {"probabilities": 1 - head.predict_proba(X).astype(np.float32), "label": 1 - head.predict(X)}
    apart = differences(opposite, head, X, head.scores(X))
    assert np.isnan(apart).all()
    with pytest.raises(HeadNotExported, match=r"on 90 where rounding decides"):
        check(apart)


@pytest.mark.parametrize(
    ("estimator", "y", "message"),
    [
        (SVC(decision_function_shape="ovo"), LABELS % 3, "decision_function_shape='ovo'"),
        (SVC(kernel=lambda a, b: a @ b.T), LABELS, "cannot be written as ONNX, only linear"),
        (KNeighborsClassifier(metric="manhattan"), LABELS, "neighbours by manhattan"),
        (LogisticRegression(), LABELS, "a LogisticRegression cannot be written as ONNX"),
    ],
    ids=["ovo", "callable", "manhattan", "foreign"],
)
def test_an_estimator_without_a_graph_is_named(estimator: Any, y: np.ndarray, message: str) -> None:
    with pytest.raises(HeadNotExported, match=message):
        head_graph(fitted(estimator, y, SINGLE, "L2N"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    names = np.array(["cat", "dog", "über", "1"])[LABELS]
    save_head(tmp_path / "pets", LogisticHead(Cs=(1.0,)).fit(X, names).head(), MANIFEST)
    return tmp_path / "pets"


def test_a_folder_becomes_a_file_that_says_what_its_labels_are(folder: Path, tmp_path: Path) -> None:
    assert export_head(folder, tmp_path / "pets.onnx") <= TOLERANCE
    graph = onnxruntime.InferenceSession(tmp_path / "pets.onnx", providers=["CPUExecutionProvider"])
    facts = graph.get_modelmeta().custom_metadata_map
    assert json.loads(facts["labels"]) == ["1", "cat", "dog", "über"]
    assert (facts["kind"], facts["head"], facts["dim"]) == ("single", "pets", str(DIM))
    assert (facts["backbone"], facts["fingerprint"], facts["created"]) == ("tiny", "ab" * 16, MANIFEST.created)
    assert json.loads(facts["rejection"]) is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pets", "pets.onnx"]


def test_a_fitted_head_of_a_folder_becomes_a_file(tmp_path: Path) -> None:
    head = fitted(SVC(), LABELS, SINGLE, "SCALED")
    save_head(tmp_path / "svm", head, MANIFEST)
    assert export_head(tmp_path / "svm", tmp_path / "svm.onnx") <= TOLERANCE
    facts = onnxruntime.InferenceSession(tmp_path / "svm.onnx").get_modelmeta().custom_metadata_map
    assert json.loads(facts["rejection"]) == {"score": "confidence", "threshold": 0.5, "rule": "by hand"}
    assert json.loads(facts["labels"]) == [0, 1, 2, 3]


def test_metadata_take_no_part_in_the_answer(folder: Path, tmp_path: Path) -> None:
    export_head(folder, tmp_path / "pets.onnx")
    model = onnx.load(tmp_path / "pets.onnx")
    before = answers(session(model), {"embedding": QUERIES})
    onnx.helper.set_model_props(model, {"labels": "no JSON", "kind": "multi"})
    for name, array in answers(session(model), {"embedding": QUERIES}).items():
        np.testing.assert_array_equal(array, before[name])


def test_a_failed_proof_leaves_no_file_and_the_former_one(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "pets.onnx"
    export_head(folder, out)
    former = out.read_bytes()
    other = LogisticHead(Cs=(10.0,)).fit(X, LABELS).head()
    monkeypatch.setattr(export, "head_graph", lambda _: head_graph(other))  # a mistake in the graph
    with pytest.raises(HeadNotExported, match="nothing was written"):
        export_head(folder, out)
    assert out.read_bytes() == former
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pets", "pets.onnx"]


def test_a_place_that_cannot_be_written_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputNotWritable, match=r"cannot write .*gone/pets.onnx"):
        export_head(folder, tmp_path / "gone" / "pets.onnx")


def test_a_graph_that_no_file_can_hold_is_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "MAX_BYTES", 100)
    with pytest.raises(HeadNotExported, match=r"bytes of weights, and one ONNX file holds 100"):
        export_head(folder, tmp_path / "pets.onnx")
    assert not (tmp_path / "pets.onnx").exists()
