"""Prepared embeddings and a target -> the small network that the tutorials draw, as arrays. Needs torch to learn."""

import copy
from types import ModuleType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.class_weight import compute_class_weight

from classifiers.errors import InvalidOption
from classifiers.head import REGRESSION, SINGLE

HELD_OUT = 0.1  # share of the examples that tells when to stop
LEARNING_RATE = 3e-3
PLATEAU, PATIENCE = 4, 12  # epochs without a better loss: then half the learning rate; then the end
BATCH = 64


class Network(BaseEstimator):
    """A dense layer with ReLU and dropout, and one that gives the scores: Dense 128, dropout 0.5, softmax.

    Learnt by Adam (Kingma and Ba, ICLR 2015). A tenth of the examples is held out: where their loss stands still the
    learning rate is halved, and when it goes on doing so the weights of the best epoch are taken. One label is learnt
    by cross-entropy, several by a sigmoid each, numbers by squared error in units of their standard deviation.

    Parameters
    ----------
    kind : {'single', 'multi', 'regression'}
    hidden : int
        Outputs of the first layer.
    dropout : float
        Share of them that is left out at random while learning.
    max_epochs : int
    class_weight : dict of int to float, 'balanced' or None
    random_state : int or None
        The same number gives the same network, on one machine.

    Attributes
    ----------
    weights_, biases_ : tuple of ndarray, float64
        Of both layers, as `Layers` takes them.
    n_epochs_ : int
    """

    def __init__(
        self,
        *,
        kind: str = SINGLE,
        hidden: int = 128,
        dropout: float = 0.5,
        max_epochs: int = 200,
        class_weight: Any = None,
        random_state: int | None = None,
    ) -> None:
        self.kind = kind
        self.hidden = hidden
        self.dropout = dropout
        self.max_epochs = max_epochs
        self.class_weight = class_weight
        self.random_state = random_state

    def fit(self, X: NDArray[Any], y: NDArray[Any]) -> Self:
        """Learn from X (n, dim) and the values of a target.

        Raises
        ------
        InvalidOption
            torch is not installed.
        """
        torch = _torch()
        middle, spread = _scale(y) if self.kind == REGRESSION else (np.zeros(1), np.ones(1))
        n_outputs = int(y.max()) + 1 if self.kind == SINGLE else y.shape[1]
        wanted = y if self.kind == SINGLE else ((y - middle) / spread).astype(np.float32)
        seed = int(np.random.RandomState(self.random_state).randint(2**31 - 1))
        with torch.random.fork_rng():  # the caller's random numbers stay as they are
            torch.manual_seed(seed)
            layers = torch.nn.Sequential(
                torch.nn.Linear(X.shape[1], self.hidden),
                torch.nn.ReLU(),
                torch.nn.Dropout(self.dropout),
                torch.nn.Linear(self.hidden, n_outputs),
            )
            inputs = torch.from_numpy(np.ascontiguousarray(X, np.float32))
            self._learn(torch, layers, inputs, torch.from_numpy(np.ascontiguousarray(wanted)), self._loss(torch, y))
        first, last = (
            (layer.weight.detach().numpy().astype(np.float64), layer.bias.detach().numpy().astype(np.float64))
            for layer in (layers[0], layers[3])
        )
        self.weights_ = (first[0], last[0] * spread[:, np.newaxis])
        self.biases_ = (first[1], last[1] * spread + middle)
        return self

    def _loss(self, torch: ModuleType, y: NDArray[Any]) -> Any:
        if self.kind == REGRESSION:
            return torch.nn.MSELoss()
        if self.kind == SINGLE:
            return torch.nn.CrossEntropyLoss(weight=self._weight(torch, y))
        weight = None
        if self.class_weight is not None:
            present = y.sum(axis=0).clip(1)
            weight = torch.from_numpy(((len(y) - present).clip(1) / present).astype(np.float32))
        return torch.nn.BCEWithLogitsLoss(pos_weight=weight)

    def _weight(self, torch: ModuleType, y: NDArray[Any]) -> Any:
        if self.class_weight is None:
            return None
        weights = compute_class_weight(self.class_weight, classes=np.unique(y), y=y)
        return torch.from_numpy(weights.astype(np.float32))

    def _learn(self, torch: ModuleType, layers: Any, inputs: Any, wanted: Any, loss: Any) -> None:
        order = torch.randperm(len(inputs))
        n_held_out = int(HELD_OUT * len(inputs))
        # Of few examples none can be spared; their own loss then says when to stop.
        held_out, learnt = (order[:n_held_out], order[n_held_out:]) if n_held_out else (order, order)
        optimizer = torch.optim.Adam(layers.parameters(), lr=LEARNING_RATE)
        schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=PLATEAU)
        least, best, since = np.inf, copy.deepcopy(layers.state_dict()), 0
        for epoch in range(self.max_epochs):
            layers.train()
            for batch in learnt[torch.randperm(len(learnt))].split(BATCH):
                optimizer.zero_grad()
                loss(layers(inputs[batch]), wanted[batch]).backward()
                optimizer.step()
            layers.eval()
            with torch.no_grad():
                found = float(loss(layers(inputs[held_out]), wanted[held_out]))
            schedule.step(found)
            since = 0 if found < least else since + 1
            if found < least:
                least, best = found, copy.deepcopy(layers.state_dict())
            self.n_epochs_ = epoch + 1
            if since >= PATIENCE:
                break
        layers.load_state_dict(best)


def _scale(y: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard deviation of each column of y (n, n_outputs); 1 where it is constant."""
    spread = y.std(axis=0)
    return y.mean(axis=0), np.where(spread > 0, spread, 1.0)


def _torch() -> ModuleType:
    try:
        import torch
    except ImportError:
        raise InvalidOption(
            "head 'network' needs torch: pip install 'headwater[network]'; or take 'logistic'"
        ) from None
    return torch
