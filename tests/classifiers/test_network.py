import sys

import numpy as np
import pytest

from classifiers.errors import InvalidOption
from classifiers.network import Network
from classifiers.preparation import Preparation
from classifiers.scorer import Layers
from tests.classifiers.conftest import Digits


def test_it_learns_and_stops_early(digits: Digits) -> None:
    prepare = Preparation.fit(digits.X[:400])
    network = Network(random_state=0, max_epochs=15).fit(prepare(digits.X[:400]), digits.y[:400])
    scorer = Layers(prepare, network.weights_, network.biases_)
    assert (scorer.scores(digits.X[500:]).argmax(axis=1) == digits.y[500:]).mean() > 0.8
    easy = np.repeat(np.eye(2, dtype=np.float32), 20, axis=0)
    unlearnable = np.random.default_rng(0).integers(2, size=40)
    assert Network(random_state=0).fit(easy, unlearnable).n_epochs_ < 200


def test_numbers_come_back_in_their_unit(digits: Digits) -> None:
    prepare = Preparation.fit(digits.X[:300])
    y = np.stack([digits.X[:300, 20] * 1000 + 5e4, np.full(300, 7.0)], axis=1)
    network = Network(kind="regression", random_state=0, max_epochs=25).fit(prepare(digits.X[:300]), y)
    found = Layers(prepare, network.weights_, network.biases_).scores(digits.X[:300])
    assert np.corrcoef(found[:, 0], y[:, 0])[0, 1] > 0.8
    assert found.mean(axis=0) == pytest.approx(y.mean(axis=0), rel=0.2)


def test_the_callers_random_numbers_stay(digits: Digits) -> None:
    import torch

    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    Network(random_state=0, max_epochs=1).fit(digits.X[:50], digits.y[:50])
    assert (torch.rand(3) == expected).all()


def test_without_torch_the_error_says_what_to_install(digits: Digits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(InvalidOption, match=r"pip install 'headwater\[network\]'"):
        Network().fit(digits.X[:50], digits.y[:50])
