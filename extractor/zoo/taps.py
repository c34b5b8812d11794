"""A torch network and names of layers -> the same network, giving what these layers compute; and a list of them all.

A layer is a module of the network by its dotted name. What it gives is taken by a hook as it passes, so that the
network itself stays as it came, whatever its forward does.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any, NamedTuple

import torch

from extractor.errors import ExportError
from extractor.zoo.choice import PENULTIMATE
from extractor.zoo.layer import Layer

_CLASSIFIERS = (torch.nn.Linear, torch.nn.Conv1d, torch.nn.Conv2d)
_SHOWN = 5  # names that an error lists

Run = Callable[[], Any]  # one forward of the network


class Tap(NamedTuple):
    """A module of a network, by its name, "" for the network itself; what it gives is taken, or what it is given."""

    module: str
    takes: bool = False


_WHOLE = Tap("")


class Tapped(torch.nn.Module):
    """A network that gives what some of its modules compute, each a tensor (n, …).

    Parameters
    ----------
    network : torch.nn.Module
    taps : sequence of Tap
    """

    def __init__(self, network: torch.nn.Module, taps: Sequence[Tap]) -> None:
        super().__init__()
        self.network = network
        self.taps = tuple(taps)

    def forward(self, *args: Any, **kwargs: Any) -> list[torch.Tensor]:
        """Run the network, and return what each tap took; where a module runs several times, the last."""
        found: dict[Tap, torch.Tensor] = {}

        def take(tap: Tap, value: Any) -> None:
            whole = tap == _WHOLE  # behind which nothing comes
            found[tap] = (tensor_of if whole else copied)(value, tap.module)

        with _hooks(self.network, self.taps, take):
            self.network(*args, **kwargs)
        if idle := [tap.module for tap in self.taps if tap not in found]:
            raise ExportError(f"layer {idle[0]!r} takes no part when the network embeds; choose one that runs")
        return [found[tap] for tap in self.taps]


def tensor_of(value: Any, name: str) -> torch.Tensor:
    """Return a tensor, or the first of what a module gives, such as transformers' outputs."""
    while not isinstance(value, torch.Tensor):
        if isinstance(value, dict):
            value = tuple(value.values())
        if not isinstance(value, tuple | list) or not value:
            raise ExportError(f"layer {name!r} gives a {type(value).__name__}, not numbers; choose another layer")
        value = value[0]
    return value


def copied(value: Any, name: str) -> torch.Tensor:
    """Return a copy of `tensor_of`: what comes next may write into the tensor itself, as ReLU(inplace=True) does."""
    return tensor_of(value, name).clone()


def find_tap(network: torch.nn.Module, name: str, run: Run) -> Tap:
    """Return the tap that a name means: a module's, or `penultimate`, what the last linear layer is given.

    Parameters
    ----------
    network : torch.nn.Module
    name : str
    run : callable
        Runs the network once, on an example.

    Raises
    ------
    ExportError
        There is none; the message lists names that are near.
    """
    modules = dict(network.named_modules())
    if name == PENULTIMATE:
        return _penultimate(network, run)
    if name in modules:
        return Tap(name)
    near = get_close_matches(name, modules, n=_SHOWN, cutoff=0.4) or list(modules)[-_SHOWN:]
    raise ExportError(
        f"the network has no layer {name!r}; near it are {', '.join(map(repr, near))}; list all with headwater layers"
    )


def runs_again(network: torch.nn.Module, names: Sequence[str], run: Run) -> bool:
    """Tell whether one of these modules runs several times for an item."""
    runs = Counter[str]()
    with _hooks(network, [Tap(name) for name in names], lambda tap, _value: runs.update([tap.module])):
        _try(run)
    return any(n > 1 for n in runs.values())


def layers_of(network: torch.nn.Module, runs: Sequence[Run]) -> list[Layer]:
    """Return the modules that give numbers, in the order in which they end, with the shapes of what they give.

    Parameters
    ----------
    network : torch.nn.Module
    runs : sequence of callable
        Two runs on items of different lengths, or one: an axis that differs between them is free.
    """
    modules = {name: module for name, module in network.named_modules() if name}
    shapes: dict[str, list[tuple[int, ...]]] = {}
    for run in runs:
        found: dict[Tap, Any] = {}
        with _hooks(network, [Tap(name) for name in modules], found.__setitem__):
            _try(run)
        for tap, value in found.items():
            try:
                shapes.setdefault(tap.module, []).append(tuple(tensor_of(value, tap.module).shape))
            except ExportError:
                continue
    return [Layer(name, "", type(modules[name]).__name__, free_axes(seen)) for name, seen in shapes.items()]


def free_axes(shapes: Sequence[tuple[int, ...]]) -> tuple[int | str, ...]:
    """Return one shape for those of several runs, with a name for what differs, and for the batch."""
    axes = zip(*shapes, strict=True)
    return ("batch", *(same[0] if len(set(same)) == 1 else "length" for same in list(axes)[1:]))


def _penultimate(network: torch.nn.Module, run: Run) -> Tap:
    linear = [Tap(name, takes=True) for name, one in network.named_modules() if isinstance(one, _CLASSIFIERS)]
    found: list[Tap] = []
    with _hooks(network, linear, lambda tap, _value: found.append(tap)):
        _try(run)
    if not found:
        raise ExportError("the network has no linear layer; name a layer: list them with headwater layers")
    return found[-1]


def _try(run: Run) -> None:
    try:
        with torch.inference_mode():
            run()
    except Exception as error:  # a network of anybody's may raise anything
        raise ExportError(
            f"the network cannot run one item of its own shape: {type(error).__name__}: {error}; say with --preprocess "
            "what an item is"
        ) from error


@contextmanager
def _hooks(network: torch.nn.Module, taps: Sequence[Tap], take: Callable[[Tap, Any], None]) -> Iterator[None]:
    handles = [_hook(network.get_submodule(tap.module), tap, take) for tap in taps]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hook(module: torch.nn.Module, tap: Tap, take: Callable[[Tap, Any], None]) -> Any:
    if tap.takes:

        def before(_module: torch.nn.Module, args: Any, kwargs: Any) -> None:
            take(tap, args or tuple(kwargs.values()))

        return module.register_forward_pre_hook(before, with_kwargs=True)

    def after(_module: torch.nn.Module, _args: Any, output: Any) -> None:
        take(tap, output)

    return module.register_forward_hook(after)
