import numpy as np
import pytest
from sklearn.metrics import log_loss as log_loss_of_scikit_learn
from sklearn.svm import SVC

from classifiers.estimators import Candidate, Setting, candidates_of
from classifiers.folds import Fold, make_folds
from classifiers.preparation import Preparation
from classifiers.search import search, worth
from classifiers.target import Target
from tests.classifiers.conftest import Digits

CANDIDATES = [*candidates_of("logistic"), *candidates_of("rbf-svm"), *candidates_of("ncm")]


def test_what_is_found_does_not_depend_on_threads(digits: Digits) -> None:
    target = Target.of(digits.y[:300])
    folds = make_folds(target, cv=3, random_state=0)
    one, two = (
        search(digits.X[:300], target.values, folds, CANDIDATES, Setting("single", 10), n_jobs=n) for n in (1, 2)
    )
    np.testing.assert_array_equal(one.scores, two.scores)
    assert [(t.head, t.params, t.score, t.log_loss) for t in one.tried] == [
        (t.head, t.params, t.score, t.log_loss) for t in two.tried
    ]
    assert len(one.tried) == len(CANDIDATES)
    assert sorted(one.rows) == list(range(300))
    best = one.tried[one.best]
    assert best.score == max(t.score or 0 for t in one.tried)
    assert (one.scores.argmax(axis=1) == target.values[one.rows]).mean() == pytest.approx(best.score)


def test_the_shared_kernel_gives_what_a_machine_of_its_own_gives(digits: Digits) -> None:
    X, target = digits.X[:200], Target.of(digits.y[:200])
    fold = Fold(np.arange(150), np.arange(150, 200))
    found = search(X, target.values, [fold], [Candidate("rbf-svm", {"C": 3.0})], Setting("single", 10))
    prepare = Preparation.fit(X[:150])
    machine = SVC(C=3.0, gamma=1.0).fit(prepare(X[:150]).astype(float), digits.y[:150] == 4)
    np.testing.assert_allclose(found.scores[:, 4], machine.decision_function(prepare(X[150:]).astype(float)), atol=5e-3)


def test_progress_is_told_in_the_callers_thread_and_may_end_the_search(digits: Digits) -> None:
    target = Target.of(digits.y[:100])
    folds, told = make_folds(target, cv=2, random_state=0), []
    setting = Setting("single", 10)
    search(digits.X[:100], target.values, folds, CANDIDATES, setting, progress=lambda *one: told.append(one))
    assert [done for done, _, _ in told][-1] == told[0][1] == 2 * len(CANDIDATES)

    def stop(done: int, total: int, text: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(digits.X[:100], target.values, folds, CANDIDATES, setting, progress=stop)


def test_a_class_that_a_fold_did_not_learn_is_never_predicted(digits: Digits) -> None:
    target = Target.of(digits.y[:200])
    learnt = np.flatnonzero(digits.y[:200] < 9)
    fold = Fold(learnt[:100], np.flatnonzero(digits.y[:200] == 9))
    found = search(digits.X[:200], target.values, [fold], CANDIDATES, Setting("single", 10))
    assert (found.scores[:, 9] == -np.inf).all()
    assert found.tried[found.best].score == 0
    only = Fold(np.flatnonzero(digits.y[:200] == 1), np.arange(5))
    assert search(digits.X[:200], target.values, [only], CANDIDATES, Setting("single", 10)).scores.shape == (5, 10)


def test_without_folds_nothing_is_fitted() -> None:
    found = search(np.ones((2, 3)), np.array([0, 1]), (), CANDIDATES[:2], Setting("single", 2), note="few")
    assert found.best == 0
    assert found.scores.shape == (0, 2)
    assert [(t.score, t.log_loss, t.folds, t.note) for t in found.tried] == [(None, None, 0, "few")] * 2


def test_the_worth_of_scores() -> None:
    scores = np.log([[0.7, 0.2, 0.1], [0.2, 0.5, 0.3], [0.5, 0.3, 0.2]] * 20)
    values = np.array([0, 1, 1] * 20)
    accuracy, loss = worth(scores, values, "single")
    assert accuracy == pytest.approx(2 / 3)
    assert loss is not None
    assert loss <= log_loss_of_scikit_learn(values, np.exp(scores), labels=[0, 1, 2])
    assert worth(np.array([[1.0], [2.0]]), np.array([[1.0], [2.0]]), "regression") == (1.0, None)
    f1, _ = worth(np.array([[5.0, -5.0], [-5.0, 5.0]] * 9), np.array([[1, 0], [0, 1]] * 9), "multi")
    assert f1 == 1
