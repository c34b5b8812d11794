import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from classifiers import projection
from classifiers.errors import InvalidOption, NotFinite, TooFewExamples
from classifiers.projection import project
from tests.classifiers.conftest import Digits


def test_neighbours_on_the_map_are_of_one_class(digits: Digits) -> None:
    found = project(digits.X, digits.y, max_rows=300)
    assert found.method == "t-SNE"
    y = digits.y[found.rows]
    neighbours = KNeighborsClassifier(2).fit(found.positions, y).kneighbors(return_distance=False)[:, 0]
    assert (y[neighbours] == y).mean() > 0.8
    assert np.abs(found.positions).max() == pytest.approx(1)


def test_a_seed_gives_the_same_map(digits: Digits) -> None:
    maps = [project(digits.X, digits.y, max_rows=60, random_state=1) for _ in range(2)]
    assert maps[0].positions.tolist() == maps[1].positions.tolist()


def test_a_sample_has_every_class_in_its_share() -> None:
    y = np.array(["rare"] * 3 + ["common"] * 997)
    found = project(np.random.default_rng(0).normal(size=(1000, 8)), y, max_rows=50)
    assert len(found.rows) == 50
    assert 1 <= (y[found.rows] == "rare").sum() <= 2
    assert (np.diff(found.rows) > 0).all()


@pytest.mark.parametrize("n", [1, 2, 3, 29, 31])
@pytest.mark.parametrize("dim", [1, 2, 60])
def test_few_rows(n: int, dim: int) -> None:
    found = project(np.random.default_rng(0).normal(size=(n, dim)))
    assert found.positions.shape == (n, 2)
    assert np.isfinite(found.positions).all()


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_rows_that_are_all_alike(value: float) -> None:
    found = project(np.full((40, 5), value))
    assert not found.positions.any()


def test_principal_components_are_learnt_from_a_sample_of_very_many(
    digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = project(digits.X, method="PCA")
    assert (whole.method, len(whole.rows)) == ("PCA", len(digits.X))
    monkeypatch.setattr(projection, "FITTED_ROWS", 500)
    sampled = project(digits.X, method="PCA")
    for axis in range(2):
        one, other = whole.positions[:, axis], sampled.positions[:, axis]
        assert abs(np.corrcoef(one, other)[0, 1]) > 0.95


@pytest.mark.stress
@pytest.mark.filterwarnings("ignore:Tensorflow not installed:ImportWarning")
def test_umap_keeps_neighbours_together(digits: Digits) -> None:
    found = project(digits.X, digits.y, max_rows=400, method="UMAP")
    assert found.method == "UMAP"
    y = digits.y[found.rows]
    neighbours = KNeighborsClassifier(2).fit(found.positions, y).kneighbors(return_distance=False)[:, 0]
    assert (y[neighbours] == y).mean() > 0.8


def test_what_has_no_place_is_refused() -> None:
    with pytest.raises(InvalidOption, match="method is 'MDS', not one of"):
        project(np.eye(3), method="MDS")
    with pytest.raises(TooFewExamples):
        project(np.zeros((0, 4)))
    with pytest.raises(NotFinite):
        project([[np.nan, 1.0]])
