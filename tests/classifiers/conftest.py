"""What these tests share: scikit-learn's handwritten digits, as arrays."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from threadpoolctl import threadpool_limits


class Digits(NamedTuple):
    """X (1797, 64) float32, grey values in 0..16; y (1797,) int64 in 0..9."""

    X: NDArray[np.float32]
    y: NDArray[np.int64]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """On small problems the threads of BLAS wait for each other: on busy cores tens of times as long as they work."""
    with threadpool_limits(1):
        yield


@pytest.fixture(scope="session")
def digits() -> Digits:
    X, y = load_digits(return_X_y=True)
    return Digits(X.astype(np.float32), y)
