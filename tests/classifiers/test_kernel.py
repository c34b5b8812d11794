from pathlib import Path

import numpy as np
import pytest

from classifiers import kernel
from classifiers.errors import HeadInvalid
from classifiers.head import Calibration, Head
from classifiers.kernel import KernelMachine
from classifiers.persist import Manifest, load_head, save_head
from classifiers.preparation import Preparation
from classifiers.scorer import Kernel
from tests.classifiers.conftest import Digits


@pytest.mark.parametrize("kind", ["single", "multi", "regression"])
def test_without_a_kernel_matrix_the_machine_is_the_same(
    kind: str, digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    X = Preparation.fit(digits.X[:150])(digits.X[:150]).astype(float)
    y = {"single": digits.y[:150], "multi": np.eye(10, dtype=int)[digits.y[:150]], "regression": X[:, 9:11]}[kind]
    matrix = KernelMachine(kind=kind, C=3.0).fit(X, y)
    monkeypatch.setattr(kernel, "MAX_KERNEL_ROWS", 10)
    rows = KernelMachine(kind=kind, C=3.0, n_jobs=2).fit(X, y)
    np.testing.assert_allclose(_scores(rows, X), _scores(matrix, X), atol=5e-3)


def test_a_regression_is_the_same_in_any_unit(digits: Digits) -> None:
    X = Preparation.fit(digits.X[:150])(digits.X[:150]).astype(float)
    one = _scores(KernelMachine(kind="regression", C=3.0).fit(X, digits.y[:150, np.newaxis] * 1.0), X)
    thousand = _scores(KernelMachine(kind="regression", C=3.0).fit(X, digits.y[:150, np.newaxis] * 1000.0), X)
    np.testing.assert_allclose(thousand / 1000, one, atol=5e-3)


def test_a_label_that_all_have_gets_constant_log_odds() -> None:
    X, Y = np.random.default_rng(0).normal(size=(20, 3)), np.ones((20, 2), int)
    Y[:5, 1] = 0
    found = _scores(KernelMachine(kind="multi").fit(X, Y), X)
    np.testing.assert_allclose(found[:, 0], np.log(21))


def test_scores_of_many_rows_are_those_of_few(digits: Digits, monkeypatch: pytest.MonkeyPatch) -> None:
    X = digits.X[:200]
    machine = KernelMachine(C=3.0).fit(Preparation.fit(X)(X), digits.y[:200])
    scorer = Kernel(Preparation.fit(X), machine.support_vectors_, machine.dual_, machine.intercept_)
    whole = scorer.scores(digits.X)
    monkeypatch.setattr("classifiers.scorer.KERNEL_ROWS", 100)
    np.testing.assert_allclose(scorer.scores(digits.X), whole, atol=1e-12)


@pytest.mark.parametrize("part", ["support", "dual", "bias", "gamma"])
def test_parts_that_do_not_fit_are_refused(part: str) -> None:
    given = {"support": np.ones((4, 3)), "dual": np.ones((2, 4)), "bias": np.ones(2), "gamma": 1.0}
    Kernel(Preparation("UN", np.zeros(3)), **given)
    wrong = {"support": np.ones((4, 2)), "dual": np.full((2, 4), np.nan), "bias": np.ones(3), "gamma": 0.0}[part]
    with pytest.raises(HeadInvalid, match="support"):
        Kernel(Preparation("UN", np.zeros(3)), **{**given, part: wrong})


def test_a_kernel_head_with_a_changed_weight_is_refused(tmp_path: Path) -> None:
    scorer = Kernel(Preparation("UN", np.zeros(3)), np.ones((4, 3)), np.ones((2, 4)), np.ones(2))
    head = Head("single", np.array(["a", "b"]), scorer, Calibration.none(2))
    save_head(tmp_path, head, Manifest(backbone="b", fingerprint="f", dim=3, created="2026-01-01T00:00:00Z"))
    assert not (tmp_path / "estimator.skops").exists()
    content = bytearray((tmp_path / "dual.npy").read_bytes())
    content[-1] ^= 1
    (tmp_path / "dual.npy").write_bytes(content)
    with pytest.raises(HeadInvalid, match="altered"):
        load_head(tmp_path)


def _scores(machine: KernelMachine, X: np.ndarray) -> np.ndarray:
    as_is = Preparation("UN", np.zeros(X.shape[1]))
    return Kernel(as_is, machine.support_vectors_, machine.dual_, machine.intercept_).scores(X)
