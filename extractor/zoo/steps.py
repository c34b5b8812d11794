"""What stands before and behind a network that was brought: each step in NumPy, for the reference, and as ONNX nodes.

The operators are those whose form no opset has changed since 7, so that they fit a graph of any age.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from extractor.spec import MASK
from extractor.zoo.axes import dim_is_last

Array = NDArray[Any]
_LARGEST = np.finfo(np.float32).max


@dataclass
class Nodes:
    """Nodes and constants that are being written; each value has a new name."""

    prefix: str
    nodes: list[NodeProto] = field(default_factory=list)
    constants: list[TensorProto] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=count)

    def add(self, operator: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Write a node of one output, and return that."""
        output = f"{self.prefix}{next(self._numbers)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def constant(self, value: Array) -> str:
        """Write a constant, and return its name."""
        name = f"{self.prefix}{next(self._numbers)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name


class Step(Protocol):
    """A map of arrays (n, …), twice; the two agree but for rounding."""

    def apply(self, values: Array) -> Array:
        """Compute it in NumPy."""

    def write(self, nodes: Nodes, name: str) -> str:
        """Write it behind the value of that name, and return the new value's."""


@dataclass(frozen=True)
class Cast:
    """To another dtype."""

    dtype: str

    def apply(self, values: Array) -> Array:
        """See `Step`."""
        return values.astype(self.dtype)

    def write(self, nodes: Nodes, name: str) -> str:
        """See `Step`."""
        return nodes.add("Cast", [name], to=helper.np_dtype_to_tensor_dtype(np.dtype(self.dtype)))


@dataclass(frozen=True)
class Scale:
    """Less a mean, divided by a deviation, each for the last axis; float32."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def apply(self, values: Array) -> Array:
        """See `Step`."""
        scaled: Array = (values - np.array(self.mean, np.float32)) / np.array(self.std, np.float32)
        return scaled

    def write(self, nodes: Nodes, name: str) -> str:
        """See `Step`."""
        centred = nodes.add("Sub", [name, nodes.constant(np.array(self.mean, np.float32))])
        return nodes.add("Div", [centred, nodes.constant(np.array(self.std, np.float32))])


@dataclass(frozen=True)
class Transpose:
    """Axes in another order."""

    axes: tuple[int, ...]

    def apply(self, values: Array) -> Array:
        """See `Step`."""
        return values.transpose(self.axes)

    def write(self, nodes: Nodes, name: str) -> str:
        """See `Step`."""
        return nodes.add("Transpose", [name], perm=self.axes)


@dataclass(frozen=True)
class Reshape:
    """To another shape, where 0 is the axis in that place and -1 what is left, as ONNX has it."""

    shape: tuple[int, ...]

    def apply(self, values: Array) -> Array:
        """See `Step`."""
        return values.reshape([axis or values.shape[place] for place, axis in enumerate(self.shape)])

    def write(self, nodes: Nodes, name: str) -> str:
        """See `Step`."""
        return nodes.add("Reshape", [name, nodes.constant(np.array(self.shape, np.int64))])


class Gap:
    """Feature maps (n, channels, …) -> (n, channels), their mean."""

    def apply(self, values: Array) -> Array:
        """See `Step`."""
        means: Array = values.mean(axis=tuple(range(2, values.ndim)))
        return means

    def write(self, nodes: Nodes, name: str) -> str:
        """See `Step`."""
        return nodes.add("Flatten", [nodes.add("GlobalAveragePool", [name])])


class Max:
    """Feature maps (n, channels, …) -> (n, channels), their largest."""

    def apply(self, values: Array) -> Array:
        """See `Step`."""
        largest: Array = values.max(axis=tuple(range(2, values.ndim)))
        return largest

    def write(self, nodes: Nodes, name: str) -> str:
        """See `Step`."""
        return nodes.add("Flatten", [nodes.add("GlobalMaxPool", [name])])


@dataclass(frozen=True)
class OfLast:
    """A pooling of maps, for values whose channels come last: (n, …, channels) -> (n, channels).

    Parameters
    ----------
    pooling : Step
    n_axes : int
        Of the values.
    """

    pooling: Step
    n_axes: int

    def apply(self, values: Array) -> Array:
        """See `Step`."""
        return self.pooling.apply(self._first().apply(values))

    def write(self, nodes: Nodes, name: str) -> str:
        """See `Step`."""
        return self.pooling.write(nodes, self._first().write(nodes, name))

    def _first(self) -> Transpose:
        return Transpose((0, self.n_axes - 1, *range(1, self.n_axes - 1)))


class Mean:
    """States (n, tokens, dim) -> (n, dim), their mean."""

    def apply(self, values: Array) -> Array:
        """See `Step`."""
        means: Array = values.mean(axis=1)
        return means

    def write(self, nodes: Nodes, name: str) -> str:
        """See `Step`."""
        return Gap().write(nodes, Transpose((0, 2, 1)).write(nodes, name))


class Cls:
    """States (n, tokens, dim) -> (n, dim), the first."""

    def apply(self, values: Array) -> Array:
        """See `Step`."""
        return values[:, 0]

    def write(self, nodes: Nodes, name: str) -> str:
        """See `Step`."""
        return nodes.add("Gather", [name, nodes.constant(np.array(0, np.int64))], axis=1)


class Flatten:
    """Values (n, …) -> (n, dim), end to end."""

    def apply(self, values: Array) -> Array:
        """See `Step`."""
        return values.reshape(len(values), -1)

    def write(self, nodes: Nodes, name: str) -> str:
        """See `Step`."""
        return nodes.add("Flatten", [name])


class MaskedMean(Mean):
    """The mean of those that the mask keeps; of one item, without padding, that is all."""

    def write(self, nodes: Nodes, name: str) -> str:
        """See `Step`."""
        weights = _weights(nodes)
        kept = nodes.add("Mul", [name, weights])
        return nodes.add("Div", [super().write(nodes, kept), super().write(nodes, weights)])


class MaskedMax:
    """States (n, tokens, dim) -> (n, dim), the largest of those that the mask keeps."""

    def apply(self, values: Array) -> Array:
        """See `Step`."""
        largest: Array = values.max(axis=1)
        return largest

    def write(self, nodes: Nodes, name: str) -> str:
        """See `Step`."""
        weights = _weights(nodes)
        padding = nodes.add("Sub", [weights, nodes.constant(np.array(1, np.float32))])
        least = nodes.add("Mul", [padding, nodes.constant(np.array(_LARGEST, np.float32))])
        kept = nodes.add("Add", [nodes.add("Mul", [name, weights]), least])
        return Max().write(nodes, Transpose((0, 2, 1)).write(nodes, kept))


class Last:
    """States (n, tokens, dim) -> (n, dim), the last that the mask keeps, which is the one before what it does not."""

    def apply(self, values: Array) -> Array:
        """See `Step`."""
        return values[:, -1]

    def write(self, nodes: Nodes, name: str) -> str:
        """See `Step`."""
        row = Transpose((0, 2, 1)).write(nodes, _weights(nodes))
        kernel = nodes.constant(np.array([[[0, 1, -1]]], np.float32))
        is_last = nodes.add("Conv", [row, kernel], pads=(1, 1))
        return nodes.add("Flatten", [nodes.add("MatMul", [is_last, name])])


def _weights(nodes: Nodes) -> str:
    """Write the mask as float32 (n, tokens, 1)."""
    return Reshape((0, -1, 1)).write(nodes, Cast("float32").write(nodes, MASK))


# Each with how many axes it takes, the batch's among them; 0 for any.
POOLINGS: dict[str, tuple[Step, int]] = {
    "gap": (Gap(), 0),
    "max": (Max(), 0),
    "mean": (Mean(), 3),
    "cls": (Cls(), 3),
    "flatten": (Flatten(), 0),
}


# Of states of tokens of which some are padding.
MASKED_POOLINGS: dict[str, Step] = {"mean": MaskedMean(), "max": MaskedMax(), "cls": Cls(), "last": Last()}


def poolings_of(shape: Sequence[int], *, tokens: bool) -> dict[str, Step]:
    """Return what values of a shape take; with `tokens` as networks of images have them, see `pooling.pool`."""
    fitting = {name: pool for name, (pool, n_axes) in POOLINGS.items() if n_axes in (0, len(shape))}
    if not tokens or not dim_is_last(shape):
        return fitting
    if len(shape) == 3:
        del fitting["gap"]
        return fitting | {"max": OfLast(Max(), 3)}
    return fitting | {"gap": OfLast(Gap(), 4), "max": OfLast(Max(), 4), "mean": OfLast(Gap(), 4)}


def apply_all(steps: Sequence[Step], values: Array) -> Array:
    """Compute steps one after another in NumPy."""
    for step in steps:
        values = step.apply(values)
    return values


def write_all(steps: Sequence[Step], nodes: Nodes, name: str) -> str:
    """Write steps one after another behind a value, and return the last one's."""
    for step in steps:
        name = step.write(nodes, name)
    return name
