"""An extractor, or a client, as the first step of a scikit-learn pipeline."""

import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer

from extractor import Extractor
from headwater import Client
from headwater.process import ServerProcess
from tests.tiny import flat, png

GRID = {"logisticregression__C": [0.1, 1.0, 10.0]}


@pytest.fixture
def images() -> tuple[list[bytes], list[str]]:
    shades = [(i % 250, 17, 250 - i) for i in range(0, 240, 6)]
    return [png(flat(*shade)) for shade in shades], ["light" if shade[0] > 120 else "dark" for shade in shades]


@pytest.fixture
def extractor(tiny_image: Path) -> Iterator[Extractor]:
    with Extractor.load(tiny_image, cache="memory") as one:
        yield one


def pipeline(extract: Callable[..., Any]) -> Pipeline:
    return make_pipeline(FunctionTransformer(extract), LogisticRegression())


def counted(extractor: Extractor, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the items that are looked up in vain, and so are computed."""
    missed: list[int] = []
    submit = extractor._batcher.submit

    def count(jobs: Any, *arguments: Any, **options: Any) -> Any:
        missed.append(len(jobs))
        return submit(jobs, *arguments, **options)

    monkeypatch.setattr(extractor._batcher, "submit", count)
    return missed


def test_a_search_embeds_each_item_once(
    extractor: Extractor, images: tuple[list[bytes], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    missed = counted(extractor, monkeypatch)
    X, y = images
    search = GridSearchCV(pipeline(extractor.extract), GRID, cv=4).fit(X, y)
    assert search.score(X, y) > 0.9
    assert len(missed) > 3 * 4
    assert sum(missed) == len(set(X))


def test_a_search_in_threads_does_too(
    extractor: Extractor, images: tuple[list[bytes], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    missed = counted(extractor, monkeypatch)
    X, y = images
    with joblib.parallel_config("threading"):
        GridSearchCV(pipeline(extractor.extract), GRID, cv=4, n_jobs=2).fit(X, y)
    assert sum(missed) == len(set(X))


def test_a_clone_shares_the_extractor(extractor: Extractor, images: tuple[list[bytes], list[str]]) -> None:
    X, y = images
    first = pipeline(extractor.extract).fit(X, y)
    second = clone(first)
    assert second[0].func.__self__ is extractor
    np.testing.assert_array_equal(second.fit(X, y).predict_proba(X), first.predict_proba(X))


def test_a_client_is_as_good(server: ServerProcess, images: tuple[list[bytes], list[str]]) -> None:
    X, y = images
    with Client(server.target, backbone="tiny-image") as client:
        found = GridSearchCV(pipeline(client.extract), GRID, cv=4).fit(X, y)
        assert clone(found.best_estimator_)[0].func.__self__ is client
        assert found.score(X, y) > 0.9


def test_paths_go_in_as_well(extractor: Extractor, images: tuple[list[bytes], list[str]], tmp_path: Path) -> None:
    X, y = images
    for i, data in enumerate(X):
        (tmp_path / f"{i}.png").write_bytes(data)
    paths = [tmp_path / f"{i}.png" for i in range(len(X))]
    assert GridSearchCV(pipeline(extractor.extract), GRID, cv=4).fit(paths, y).score(X, y) > 0.9


def test_neither_goes_into_a_pickle(extractor: Extractor, server: ServerProcess) -> None:
    with Client(server.target) as client:
        for one in (extractor, client):
            with pytest.raises(TypeError, match="share it among threads"):
                pickle.dumps(one)
