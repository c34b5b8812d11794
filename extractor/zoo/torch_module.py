"""`torch:MODULE:FACTORY`: anybody's network in torch, made by a function -> any layer of it.

The module is imported by its dotted name, or from a file: `torch:networks/policy.py:make`. The function is called with
`--arguments`, and the weights come from `--weights`, which are read as tensors alone. It takes floats (n, …): images
(n, 3, size, size), arrays as `shape` says, waveforms (n, samples), spectrograms (n, n_mels, frames).
"""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from traceback import extract_tb
from typing import Any, cast

import torch

from extractor.errors import ExportError
from extractor.recipes import ArrayPreprocess, AudioPreprocess, LogMelPreprocess
from extractor.spec import Input
from extractor.zoo.choice import PENULTIMATE, RANDOM, Choice
from extractor.zoo.embedder import ArrayEmbedder, Embedder, SpectrogramEmbedder, WaveformEmbedder
from extractor.zoo.front import Front, check_scale, longest, recipe_of
from extractor.zoo.images import image_front
from extractor.zoo.layer import Layer
from extractor.zoo.taps import Tapped, find_tap, layers_of
from extractor.zoo.torch_network import RANDOM_SOURCE, TorchNetwork, brought, seeded
from extractor.zoo.weights import bring_weights

_PREFIX = "headwater_brought_"  # of the modules that are made of files, so that they hide no others
_ADVICE = "give torch:package.module:function, or torch:FILE.py:function"


@dataclass(frozen=True, eq=False)
class _Input:
    """What stands before a network: facts for the export, an item as the network takes it, and what embeds."""

    facts: Mapping[str, Any]
    item: torch.Tensor
    embedder: Callable[..., Embedder]


def build(reference: str, choice: Choice) -> TorchNetwork:
    """Make a network and load its weights.

    Parameters
    ----------
    reference : str
        `MODULE:FACTORY`.
    choice : Choice
        With `weights`, and `preprocess` where the modality's recipe needs facts.

    Raises
    ------
    ExportError
        There is no such function, it makes no network, or the weights are not this network's; or what was chosen does
        not fit.
    """
    network = _made(reference, choice)
    source = _weigh(network, choice)
    before = _input(choice)
    layers = tuple(choice.layers or (PENULTIMATE,))
    taps = [find_tap(network, name, lambda: network(before.item)) for name in layers]
    return brought(
        reference.rpartition(":")[2],
        before.embedder(Tapped(network, taps), pooling=choice.pooling),
        choice,
        **before.facts,
        source=f"{choice.source or Path(reference).name}, {source}; {', '.join(layers)}",
        licence=choice.licence,
    )


def layers(reference: str, choice: Choice) -> list[Layer]:
    """Return the layers of a network, which is made without its weights."""
    network, before = _made(reference, choice), _input(choice)
    return layers_of(network, [lambda: network(before.item)])


def _made(reference: str, choice: Choice) -> torch.nn.Module:
    module, _, factory = reference.rpartition(":")
    if not module or not factory:
        raise ExportError(f"torch:{reference} names no function; {_ADVICE}")
    make = getattr(_imported(module), factory, None)
    if not callable(make):
        raise ExportError(f"{module} has no function {factory!r}; {_ADVICE}")
    seeded()
    try:
        network = make(**dict(choice.arguments or {}))
    except TypeError as error:
        given = f"with --arguments {json.dumps(choice.arguments)}" if choice.arguments else "without --arguments"
        raise ExportError(f"{reference} cannot be called {given}: {_raised(error)}") from error
    except Exception as error:  # whatever a network's own code raises
        raise ExportError(f"{reference} makes no network: {_raised(error)}; mend it") from error
    if not isinstance(network, torch.nn.Module):
        raise ExportError(f"{reference} gives a {type(network).__name__}, not a torch.nn.Module")
    if stuck := [name for name, one in network.eval().named_modules() if one.training]:
        raise ExportError(f"{reference} gives a network whose {stuck[0]!r} stays in training mode after eval()")
    return network


def _imported(name: str) -> Any:
    if not name.endswith(".py"):
        try:
            return import_module(name)
        except ModuleNotFoundError as error:
            raise ExportError(f"{name} cannot be imported ({error}); {_ADVICE}") from None
        except Exception as error:  # whatever its code raises
            raise ExportError(f"{name} cannot be imported: {_raised(error)}; mend it") from error
    path = Path(name)
    found = spec_from_file_location(f"{_PREFIX}{path.stem}", path)
    if found is None or found.loader is None or not path.is_file():
        raise ExportError(f"there is no file {name}; {_ADVICE}")
    module = module_from_spec(found)
    sys.modules[module.__name__] = module  # where its own classes look for themselves
    try:
        found.loader.exec_module(module)
    except Exception as error:  # as above
        raise ExportError(f"{name} cannot be imported: {_raised(error)}; mend it") from error
    return module


def _raised(error: Exception) -> str:
    """Return what an error says, and where a person's own code raised it."""
    *_, last = extract_tb(error.__traceback__)
    where = "" if isinstance(error, SyntaxError) else f" ({Path(last.filename).name}, line {last.lineno})"
    return f"{type(error).__name__}: {error}{where}"


def _weigh(network: torch.nn.Module, choice: Choice) -> str:
    """Load the weights, and return where they come from."""
    if choice.weights == RANDOM:
        return RANDOM_SOURCE
    if choice.weights is None:
        raise ExportError(
            "a network of one's own needs --weights FILE, safetensors or a state dict saved by torch; or --weights "
            "random, to try its architecture"
        )
    return bring_weights(network, choice)


def _input(choice: Choice) -> _Input:
    modality = choice.modality or "array"
    makers = {"array": _arrays, "image": _images, "audio": _sounds}
    if modality not in makers:
        raise ExportError(f"modality is {modality!r}; torch: takes {', '.join(makers)}")
    made = makers[modality](choice)
    preprocess = made.facts["preprocess"]
    check_scale(choice, preprocess, floats=getattr(preprocess, "dtype", "") != "int64")
    return made


def _arrays(choice: Choice) -> _Input:
    given: dict[str, Any] = {"dtype": "float32"} | dict(choice.preprocess or {})
    if not given.get("shape"):
        raise ExportError('say the shape of one array: --preprocess \'{"shape": [4, 84, 84], "dtype": "uint8"}\'')
    facts = cast(ArrayPreprocess, recipe_of("array", given))
    front = Front("array", Input(facts.dtype, ("batch", *facts.shape)), facts, "", ())
    item = torch.from_numpy(front.example())
    taken = item if item.dtype == torch.int64 else item.to(torch.float32) * choice.scale
    return _Input(_facts(front), taken, partial(ArrayEmbedder, scale=choice.scale))


def _sounds(choice: Choice) -> _Input:
    given = dict(choice.preprocess or {})
    if "sample_rate" not in given:
        raise ExportError("say how many samples a second the network takes: --preprocess '{\"sample_rate\": 16000}'")
    given = {"max_samples": longest(given)} | given
    if given.get("recipe") == LogMelPreprocess.recipe:
        given = {"min_samples": given.get("n_fft", LogMelPreprocess.n_fft)} | given
    facts = cast(AudioPreprocess, recipe_of("audio", given))
    if isinstance(facts, LogMelPreprocess):
        front = Front("log_mel", Input("float32", ("batch", "frames", facts.n_mels)), facts, "", ())
        item = torch.from_numpy(front.example()).transpose(1, 2)
        return _Input(_facts(front), item, SpectrogramEmbedder)
    front = Front("waveform", Input("float32", ("batch", "samples")), facts, "", ())
    item = torch.from_numpy(front.example()) * choice.scale
    return _Input(_facts(front), item, partial(WaveformEmbedder, scale=choice.scale))


def _images(choice: Choice) -> _Input:
    front = image_front({}, choice)
    return _Input(front.facts(), front.example(), front.embedder)


def _facts(front: Front) -> dict[str, Any]:
    return {
        "input": front.input,
        "preprocess": front.preprocess,
        "example": {front.name: front.example()},
        "items": front.made_up_items(),
    }
