import hashlib
import io
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import skops.io
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC

from classifiers.errors import HeadInvalid, NotFinite
from classifiers.head import Calibration, Head, Rejection
from classifiers.heads import LogisticHead
from classifiers.persist import Manifest, load_head, save_head
from classifiers.preparation import Preparation
from classifiers.scorer import Fitted, Layers

MANIFEST = Manifest(
    backbone="tiny", fingerprint="ab" * 16, dim=64, created="2026-01-31T12:00:00+00:00", metrics={"accuracy": 0.9}
)


@pytest.fixture(scope="module")
def fitted() -> tuple[LogisticHead, np.ndarray]:
    X, y = load_digits(return_X_y=True)
    return LogisticHead(Cs=(1.0,)).fit(X[:500], y[:500]), X[500:]


@pytest.fixture
def folder(fitted: tuple[LogisticHead, np.ndarray], tmp_path: Path) -> Path:
    save_head(tmp_path / "head", fitted[0].head(), MANIFEST)
    return tmp_path / "head"


def alter(folder: Path, **facts: object) -> None:
    path = folder / "head.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))


@pytest.mark.parametrize("names", [lambda y: y, lambda y: np.array([f"digit {i}" for i in y]), lambda y: y > 4])
def test_a_head_in_arrays_is_the_fitted_one(names: object) -> None:
    X, y = load_digits(return_X_y=True)
    labels = names(y).astype(int) if names(y).dtype == bool else names(y)
    head = LogisticHead(Cs=(10.0,)).fit(X[:500], labels[:500])
    kept = head.head()
    np.testing.assert_allclose(kept.predict_proba(X[500:]), head.predict_proba(X[500:]), atol=1e-9)
    np.testing.assert_array_equal(kept.predict(X[500:]), head.predict(X[500:]))


def test_what_was_saved_comes_back_to_the_bit(fitted: tuple[LogisticHead, np.ndarray], folder: Path) -> None:
    head, manifest = load_head(folder)
    assert manifest == MANIFEST
    np.testing.assert_array_equal(head.predict_proba(fitted[1]), fitted[0].head().predict_proba(fitted[1]))
    assert sorted(path.name for path in folder.iterdir()) == [
        *("bias_0.npy", "center.npy", "head.json", "scale.npy", "shift.npy", "weight_0.npy")
    ]


def test_a_folder_without_its_json_is_no_head_and_one_is_replaced_whole(
    fitted: tuple[LogisticHead, np.ndarray], folder: Path
) -> None:
    (folder / "head.json").unlink()
    with pytest.raises(HeadInvalid, match=r"there is no head in .*headwater train"):
        load_head(folder)
    save_head(folder, fitted[0].head(), MANIFEST)
    assert load_head(folder)[1] == MANIFEST


def test_a_changed_weight_is_refused(folder: Path) -> None:
    path = folder / "weight_0.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(HeadInvalid, match=r"weight_0.npy was altered"):
        load_head(folder)


class Bomb:
    def __reduce__(self) -> tuple:
        return os.mkdir, (os.environ["BOMB"],)


def test_a_planted_pickle_is_refused_and_not_run(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOMB", str(tmp_path / "ran"))
    for content in (pickle.dumps(Bomb()), _object_array()):
        (folder / "weight_0.npy").write_bytes(content)
        with pytest.raises(HeadInvalid):
            load_head(folder)
        files = json.loads((folder / "head.json").read_text())["files"]
        alter(folder, files=files | {"weight_0.npy": hashlib.sha256(content).hexdigest()})
        with pytest.raises(HeadInvalid, match="is no array"):
            load_head(folder)
    assert not (tmp_path / "ran").exists()


def _object_array() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([Bomb()], object), allow_pickle=True)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "facts",
    [
        {"format": 2},
        {"kind": "svm"},
        {"classes": ["one"]},
        {"classes": [0] * 10},
        {"classes": [[]] * 10},
        {"classes": list(range(11))},
        {"classes": None},
        {"dim": 63},
        {"dim": "64"},
        {"fingerprint": None},
        {"files": {}},
        {"files": {"weight_0.npy": "../../etc/passwd", "bias_0.npy": ""}},
        {"items": None},
    ],
)
def test_what_no_head_can_be_is_refused(folder: Path, facts: dict) -> None:
    alter(folder, **facts)
    with pytest.raises(HeadInvalid):
        load_head(folder)


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"\xff", b'{"format": 1}', b"[" * 100_000])
def test_json_that_is_none_is_refused(folder: Path, content: bytes) -> None:
    (folder / "head.json").write_bytes(content)
    with pytest.raises(HeadInvalid):
        load_head(folder)


def test_embeddings_of_another_length_or_not_finite_are_refused(folder: Path) -> None:
    head, _ = load_head(folder)
    with pytest.raises(ValueError, match=r"X is \(2, 63\), the head takes \(n, 64\)"):
        head.predict(np.ones((2, 63)))
    with pytest.raises(NotFinite):
        head.predict(np.full((2, 64), np.nan))


def kept_estimator(folder: Path, estimator: object, y: np.ndarray) -> tuple[Head, Head]:
    X, _ = load_digits(return_X_y=True)
    prepare = Preparation.fit(X[:200])
    fitted = estimator.fit(prepare(X[:200]), y[:200])
    n = y.shape[1] if y.ndim > 1 else len(np.unique(y[:200]))
    kind = "multi" if y.ndim > 1 else "single"
    rejection = Rejection("confidence", 0.25, "5 % quantile of held-out confidence")
    head = Head(kind, np.arange(n), Fitted(prepare, fitted, n), Calibration.temperature(2.0, n), rejection)
    save_head(folder, head, MANIFEST)
    return head, load_head(folder)[0]


NEIGHBOURS = KNeighborsClassifier(algorithm="brute", weights="distance")


@pytest.mark.parametrize(
    ("estimator", "labels"), [(SVC(), 10), (SVC(), 2), (NEIGHBOURS, 10), (NEIGHBOURS, 2), (NEIGHBOURS, "several")]
)
def test_an_estimator_comes_back_with_its_scores(tmp_path: Path, estimator: object, labels: object) -> None:
    X, y = load_digits(return_X_y=True)
    if labels == "several":
        y = np.stack([y > 4, y % 2], axis=1).astype(int)
    elif labels == 2:
        y = y % 2
    head, read = kept_estimator(tmp_path / "head", estimator, y)
    np.testing.assert_array_equal(read.predict_proba(X), head.predict_proba(X))
    assert read.rejection == head.rejection
    assert read.kind == head.kind


def with_estimator(folder: Path, content: bytes) -> Path:
    (folder / "estimator.skops").write_bytes(content)
    facts = json.loads((folder / "head.json").read_text())
    alter(folder, files=facts["files"] | {"estimator.skops": hashlib.sha256(content).hexdigest()})
    return folder


def test_an_estimator_of_foreign_parts_is_refused_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOMB", str(tmp_path / "ran"))
    _, y = load_digits(return_X_y=True)
    kept_estimator(tmp_path / "head", SVC(), y)
    bad = {
        "which no head is made of": skops.io.dumps(FunctionTransformer(os.mkdir)),
        "is a StandardScaler, not one of": skops.io.dumps(StandardScaler()),
        "is no estimator": pickle.dumps(Bomb()),
        r"takes length 3, not 64": skops.io.dumps(SVC().fit([[1, 2, 3], [3, 2, 1]], [0, 1])),
    }
    for words, content in bad.items():
        with pytest.raises(HeadInvalid, match=words):
            load_head(with_estimator(tmp_path / "head", content))
    assert not (tmp_path / "ran").exists()


SHRUNK: dict[str, Callable[[SVC], object]] = {
    "_dual_coef_": lambda machine: machine._dual_coef_[:1],
    "dual_coef_": lambda machine: machine.dual_coef_[:, :5],
    "_n_support": lambda machine: machine._n_support + np.int32(1000),
    "support_": lambda machine: machine.support_[:1],
    "support_vectors_": lambda machine: machine.support_vectors_[:3],
    "_intercept_": lambda machine: machine._intercept_[:2],
    "classes_": lambda machine: np.arange(40),
    "_probA": lambda machine: np.ones(45),
    "_sparse": lambda machine: True,
    "kernel": lambda machine: "precomputed",
    "_gamma": lambda machine: float("nan"),
}


@pytest.mark.parametrize("part", SHRUNK)
def test_a_machine_whose_parts_do_not_fit_is_never_asked(tmp_path: Path, part: str) -> None:
    X, y = load_digits(return_X_y=True)
    kept_estimator(tmp_path / "head", SVC(), y)
    forged = SVC().fit(X[:200], y[:200])
    setattr(forged, part, SHRUNK[part](forged))
    with pytest.raises(HeadInvalid, match="do not fit together"):
        load_head(with_estimator(tmp_path / "head", skops.io.dumps(forged)))


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("_y", np.zeros(3, int)),
        ("_y", np.full(200, 99)),
        ("_y", np.full(200, -1)),
        ("n_neighbors", 999),
        ("metric", "nope"),
    ],
)
def test_neighbours_without_their_labels_are_never_asked(tmp_path: Path, part: str, value: object) -> None:
    X, y = load_digits(return_X_y=True)
    kept_estimator(tmp_path / "head", KNeighborsClassifier(algorithm="brute"), y)
    forged = KNeighborsClassifier(algorithm="brute").fit(X[:200], y[:200])
    setattr(forged, part, value)
    with pytest.raises(HeadInvalid, match=r"do not fit together|is no estimator"):
        load_head(with_estimator(tmp_path / "head", skops.io.dumps(forged)))


def test_an_estimator_that_is_cut_or_spoilt_is_no_head(tmp_path: Path) -> None:
    _, y = load_digits(return_X_y=True)
    kept_estimator(tmp_path / "head", SVC(), y)
    content = (tmp_path / "head" / "estimator.skops").read_bytes()
    for spoilt in (b"", content[: len(content) // 2], content[:100] + bytes(100) + content[200:]):
        with pytest.raises(HeadInvalid):
            load_head(with_estimator(tmp_path / "head", spoilt))


def test_an_estimator_that_could_not_be_read_again_is_not_kept(tmp_path: Path) -> None:
    _, y = load_digits(return_X_y=True)
    with pytest.raises(HeadInvalid, match="not one of"):
        kept_estimator(tmp_path / "head", LogisticRegression(max_iter=1000), y)
    assert not (tmp_path / "head").exists()


def test_weights_that_are_not_finite_are_no_head() -> None:
    with pytest.raises(HeadInvalid, match="NaN or infinity"):
        Layers(Preparation("L2N", np.zeros(3)), (np.full((2, 3), np.inf),), (np.zeros(2),))
