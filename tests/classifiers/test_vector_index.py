import json
from pathlib import Path

import faiss
import numpy as np
import pytest

from classifiers.errors import EmbeddingMismatch, IndexUnreadable, InvalidOption, NotFinite
from classifiers.vector_index import VectorIndex, nearest, seconds_a_query, write_index
from tests.classifiers.conftest import Digits

OF = {"fingerprint": "ab" * 16, "backbone": "pixels"}


def test_the_nearest_are_brute_forces(digits: Digits) -> None:
    queries = digits.X[:20] + 0.5
    unit, asked = (
        X / np.linalg.norm(X, axis=1, keepdims=True) for X in (digits.X.astype(float), queries.astype(float))
    )
    cosines = asked @ unit.T
    found = nearest(digits.X, queries, 7)
    np.testing.assert_allclose(found.cosines, -np.sort(-cosines, axis=1)[:, :7], atol=1e-6)
    np.testing.assert_allclose(np.take_along_axis(cosines, found.rows, 1), found.cosines, atol=1e-6)


def test_blocks_make_no_difference_and_of_equals_the_first_rows_come(
    digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    X = np.concatenate([digits.X[:50]] * 3)
    monkeypatch.setattr("classifiers.vector_index.BLOCK_ROWS", 7)
    assert nearest(X, X[:2], 3).rows.tolist() == [[0, 50, 100], [1, 51, 101]]
    assert nearest(X[:2], X[:2], 9).rows.shape == (2, 2)


def test_an_index_finds_what_brute_force_finds(digits: Digits, tmp_path: Path) -> None:
    numbers = 10 * np.arange(len(digits.X))
    facts = write_index(tmp_path, digits.X, numbers, **OF)
    index = VectorIndex.open(tmp_path)
    assert index.facts == facts
    found, exact = index.search(digits.X[:20], 5, fingerprint="ab" * 16), nearest(digits.X, digits.X[:20], 5)
    np.testing.assert_array_equal(found.rows[:, 0], 10 * exact.rows[:, 0])
    np.testing.assert_allclose(found.cosines, exact.cosines, atol=1e-5)
    assert index.is_of(digits.X, numbers, "ab" * 16)
    assert not index.is_of(digits.X[:-1], numbers[:-1], "ab" * 16)
    assert not index.is_of(digits.X, numbers + 1, "ab" * 16)
    assert not index.is_of(digits.X + 1, numbers, "ab" * 16)
    assert not index.is_of(digits.X, numbers, "cd" * 16)
    few = write_index(tmp_path, digits.X[:300], np.arange(300), **OF)
    other = np.concatenate([digits.X[:299], digits.X[400:401]])  # another dump of as many, into the same folder
    assert not VectorIndex(None, few).is_of(other, np.arange(300), "ab" * 16)
    write_index(tmp_path, digits.X, numbers, **OF)
    assert seconds_a_query(index) > 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index.faiss", "index.json"]
    theirs = faiss.read_index(str(tmp_path / "index.faiss"))  # as others open it
    assert theirs.ntotal == len(digits.X)


def test_what_does_not_fit_is_refused(digits: Digits, tmp_path: Path) -> None:
    write_index(tmp_path, digits.X[:9], np.arange(9), **OF)
    index = VectorIndex.open(tmp_path)
    with pytest.raises(EmbeddingMismatch, match=r"the index is of pixels abab.* and the query of cd"):
        index.search(digits.X[:1], fingerprint="cd")
    with pytest.raises(EmbeddingMismatch, match=r"queries are \(1, 3\), and must be \(n, 64\)"):
        nearest(digits.X, np.ones((1, 3)))
    with pytest.raises(InvalidOption, match="k is 0"):
        nearest(digits.X, digits.X[:1], 0)
    with pytest.raises(NotFinite):
        nearest(digits.X, digits.X[:1] * np.nan)
    with pytest.raises(NotFinite):
        write_index(tmp_path, digits.X * np.nan, np.arange(len(digits.X)), **OF)


def test_files_that_are_wrong_are_told(digits: Digits, tmp_path: Path) -> None:
    with pytest.raises(IndexUnreadable, match=r"there is no .*index.json; make the index: headwater index"):
        VectorIndex.open(tmp_path)
    write_index(tmp_path, digits.X[:9], np.arange(9), **OF)
    facts = json.loads((tmp_path / "index.json").read_text())
    for wrong, words in (
        ('{"format": 2}', "newer"),
        ("[1]", "cannot be used"),
        ("{", "cannot be used"),
        (json.dumps(facts | {"n_rows": 8}), "9 rows of 64, and its facts say otherwise"),
    ):
        (tmp_path / "index.json").write_text(wrong)
        with pytest.raises(IndexUnreadable, match=words):
            VectorIndex.open(tmp_path)
    (tmp_path / "index.json").write_text(json.dumps(facts))
    (tmp_path / "index.faiss").write_bytes((tmp_path / "index.faiss").read_bytes()[:200])
    with pytest.raises(IndexUnreadable, match=r"index.faiss cannot be used .*make it anew"):
        VectorIndex.open(tmp_path)
