import numpy as np
import pytest
from numpy.typing import NDArray

from classifiers import similarity_join
from classifiers.similarity_join import SimilarityJoin, threads

Floats = NDArray[np.floating]


def clusters(n: int = 1500, dim: int = 96, n_clusters: int = 40, noise: float = 0.2) -> Floats:
    rng = np.random.default_rng(0)
    return rng.normal(size=(n_clusters, dim))[rng.integers(n_clusters, size=n)] + noise * rng.normal(size=(n, dim))


def cosines(X: Floats, Y: Floats) -> NDArray[np.float64]:
    one, other = (A / np.maximum(np.linalg.norm(A, axis=1, keepdims=True), 1e-30) for A in map(np.float64, (X, Y)))
    return one @ other.T


@pytest.mark.parametrize("least", [0.5, 0.95, 1.0])
@pytest.mark.parametrize("tile", [(256, 1024), (7, 30)])
def test_pairs_are_those_of_brute_force(least: float, tile: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similarity_join, "TILE", tile)
    X = clusters().astype(np.float32)
    Y = np.concatenate([X[:200] * 3, np.zeros((2, 96)), clusters(300, noise=1.0)]).astype(np.float32)
    rows, among = np.arange(50, len(Y)), np.arange(len(X)) % 3 > 0
    with threads() as pool:
        pairs = list(SimilarityJoin.of(X, least, pool).pairs(Y, rows, among, lambda rows, *_: np.arange(len(rows))))
    found, others, alike = map(np.concatenate, zip(*pairs, strict=True))
    expected = cosines(Y, X)
    near = expected >= least - 1e-6
    near[:50] = near[:, ~among] = False
    assert sorted(zip(found.tolist(), others.tolist(), strict=True)) == list(map(tuple, np.argwhere(near).tolist()))
    np.testing.assert_allclose(alike, expected[found, others], atol=1e-12)


def test_cells_and_sketches_leave_few_pairs_to_compare() -> None:
    X = clusters(noise=0.5).astype(np.float32)
    with threads() as pool:
        join = SimilarityJoin.of(X, 0.95, pool)
    assert np.bincount(np.concatenate(join.cells)).tolist() == [1] * len(X)
    reached = join._reached(X / np.linalg.norm(X, axis=1, keepdims=True))
    assert (reached @ np.array(list(map(len, join.cells)))).mean() < 0.2 * len(X)
    bounds = join.sketches @ join.sketches.T
    assert (bounds >= cosines(X, X) - 1e-5).all()
    assert (bounds >= 0.95).mean() < 2 / len(X)
