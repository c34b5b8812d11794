"""A graph's input and what a person says of it -> the recipe for items, and the steps from there to that input."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from onnx import helper

from extractor.errors import ExportError
from extractor.preprocess.log_mel import n_frames
from extractor.recipes import (
    ArrayPreprocess,
    AudioPreprocess,
    ImagePreprocess,
    LogMelPreprocess,
    Preprocess,
    TextPreprocess,
    parse_preprocess,
)
from extractor.spec import Input
from extractor.zoo.choice import Choice
from extractor.zoo.onnx_model import shape_of
from extractor.zoo.steps import Cast, Reshape, Scale, Step, Transpose

N_MADE_UP = 7
MAX_SECONDS = 30  # of a sound, where nobody says
_N_TOKENS = 5  # of an example
_LONGEST_MADE_UP = 64  # of an array whose first axis varies
_RECIPES = {"array": "npy/1", "audio": "waveform/1", "image": "center-crop/1", "text": "tokenizer/1"}


@dataclass(frozen=True, eq=False)
class Front:
    """What stands before a graph.

    Parameters
    ----------
    name : str
        Of the backbone's input.
    spec : Input
        Of prepared items in a batch.
    preprocess : Preprocess
    graph_input : str
        The graph's own input.
    steps : sequence of Step
        From the one to the other.
    """

    name: str
    spec: Input
    preprocess: Preprocess
    graph_input: str
    steps: Sequence[Step]

    @property
    def input(self) -> dict[str, Input]:
        """The backbone's input, for its spec."""
        return {self.name: self.spec}

    def example(self) -> NDArray[Any]:
        """Return one prepared item (1, …), to learn the shapes from."""
        shape = [axis if isinstance(axis, int) else self._length() for axis in self.spec.shape[1:]]
        return _draw((1, *shape), self.spec.dtype, seed=0)

    def made_up_items(self) -> list[bytes]:
        """Return items for the proof where nobody gave real ones."""
        if isinstance(self.preprocess, ImagePreprocess):
            from extractor.zoo.golden import photos

            return photos()
        if isinstance(self.preprocess, AudioPreprocess):
            from extractor.zoo.golden.sounds import sounds

            return sounds()
        if isinstance(self.preprocess, TextPreprocess):
            from extractor.zoo.golden import TEXTS

            return [text.encode() for text in TEXTS]
        return [_npy(_draw(self._shape(i), self.spec.dtype, seed=i + 1)) for i in range(N_MADE_UP)]

    def _length(self) -> int:
        """Return a length within the bounds: of a second of sound, of a short text, of an array that is not long."""
        facts = self.preprocess
        if isinstance(facts, ArrayPreprocess):
            return min(facts.max_length, max(facts.min_length, _LONGEST_MADE_UP))
        if isinstance(facts, TextPreprocess):
            return min(facts.max_tokens, _N_TOKENS)
        sound = cast(AudioPreprocess, facts)
        n_samples = min(sound.max_samples, max(sound.min_samples, sound.sample_rate))
        return n_frames(n_samples, facts) if isinstance(facts, LogMelPreprocess) else n_samples

    def _shape(self, place: int) -> tuple[int, ...]:
        """Return the shape of one of the made-up arrays: of the least length, of the largest, and between."""
        facts = cast(ArrayPreprocess, self.preprocess)
        least, most = facts.min_length, self._length()
        lengths = [least, most, *np.linspace(least, most, N_MADE_UP - 2).astype(int).tolist()]
        return tuple(axis if isinstance(axis, int) else lengths[place] for axis in facts.shape)


def front_of(graph_input: Any, choice: Choice) -> Front:
    """Return what stands before a graph.

    Parameters
    ----------
    graph_input : onnx.ValueInfoProto
    choice : Choice

    Raises
    ------
    ExportError
        The input has another form than the modality's, or what was said does not suffice.
    """
    makers = {"array": _array, "audio": _audio, "image": _image, "text": _text}
    modality = choice.modality or "array"
    if modality not in makers:
        raise ExportError(f"modality is {modality!r}; onnx:FILE takes {', '.join(makers)}")
    dtype = _dtype(graph_input)
    front = makers[modality](graph_input.name, dtype, shape_of(graph_input), choice)
    check_scale(choice, front.preprocess, floats=np.dtype(dtype).kind == "f")
    return front


def check_scale(choice: Choice, preprocess: Preprocess, *, floats: bool) -> None:
    """Check that what is said of the scale is heeded: of waveforms, and of arrays for a network of floats."""
    if choice.scale == 1.0:
        return
    if not 0 < abs(choice.scale) < np.inf:
        raise ExportError(f"scale is {choice.scale}; take a number but 0")
    if not (type(preprocess) is AudioPreprocess or (isinstance(preprocess, ArrayPreprocess) and floats)):
        raise ExportError(
            f"scale is {choice.scale:g}; it is for waveforms, and for arrays that a network takes as floats: leave "
            "--scale away, and say mean and std of images, offset and scale of a log-mel spectrogram, by --preprocess"
        )


def longest(given: Mapping[str, Any]) -> int:
    """Return the bound of a sound, in samples, where none is said."""
    rate = given["sample_rate"]
    return MAX_SECONDS * rate if isinstance(rate, int) else 1  # else the recipe's own check tells


def recipe_of(modality: str, facts: Mapping[str, Any]) -> Preprocess:
    """Return the recipe that facts name, by default the modality's plainest; raises ExportError."""
    recipe = {"recipe": _RECIPES[modality]} | dict(facts)
    try:
        return parse_preprocess(modality, recipe)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ExportError(f"what --preprocess says is no recipe for {modality}: {error}") from None


def _array(name: str, dtype: str, shape: tuple[int | str, ...], choice: Choice) -> Front:
    given = dict(choice.preprocess or {})
    said = given.get("shape", shape[1:])
    item = tuple(said) if isinstance(said, list | tuple) else (said,)
    if not shape and not given.get("shape"):
        raise ExportError(
            f"the file does not tell the shape of {name!r}; say it: --preprocess '{{\"shape\": [4, 84]}}'"
        )
    free = [axis for axis in item[1:] if isinstance(axis, str)]
    if free:
        raise ExportError(
            f"{name!r} is {shape}: only an item's first axis may vary, not {free[0]!r}; say what it is: "
            "--preprocess '{\"shape\": [3, 84, 84]}'"
        )
    item = tuple("length" if isinstance(axis, str) else axis for axis in item)
    facts = cast(ArrayPreprocess, _recipe(choice, {"dtype": dtype} | given | {"shape": item}))
    steps: list[Step] = [Cast(dtype)] if facts.dtype != dtype else []
    if choice.scale != 1.0:
        steps = [Cast("float32"), *_scaled(choice), Cast(dtype)]
    return Front("array", Input(facts.dtype, ("batch", *item)), facts, name, steps)


def _audio(name: str, dtype: str, shape: tuple[int | str, ...], choice: Choice) -> Front:
    given = dict(choice.preprocess or {})
    if "sample_rate" not in given:
        raise ExportError(
            "say how many samples a second the network takes: --preprocess '{\"sample_rate\": 16000}', and more of "
            "its front end where it takes a spectrogram"
        )
    facts = cast(AudioPreprocess, _recipe(choice, _lengths(shape, given) | given))
    if isinstance(facts, LogMelPreprocess):
        return _spectrogram(name, dtype, shape, facts)
    samples: int | str = "samples" if facts.min_samples < facts.max_samples else facts.max_samples
    channel: list[Step] = [Reshape((0, 1, -1))] if len(shape) == 3 else []
    steps = [*_scaled(choice), Cast(dtype), *channel]
    return Front("waveform", Input("float32", ("batch", samples)), facts, name, steps)


def _scaled(choice: Choice) -> list[Step]:
    return [Scale((0.0,), (1 / (choice.scale or 1.0),))] if choice.scale != 1.0 else []


def _lengths(shape: tuple[int | str, ...], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the bounds of a sound where none are said: one frame to 30 s, or what the graph's shape fixes."""
    if given.get("recipe") == LogMelPreprocess.recipe:
        return {"min_samples": given.get("n_fft", LogMelPreprocess.n_fft), "max_samples": longest(given)}
    if shape and isinstance(shape[-1], int):
        return {"min_samples": shape[-1], "max_samples": shape[-1]}
    return {"max_samples": longest(given)}


def _spectrogram(name: str, dtype: str, shape: tuple[int | str, ...], facts: LogMelPreprocess) -> Front:
    frames: int | str = "frames"
    if facts.min_samples == facts.max_samples:
        frames = n_frames(facts.max_samples, facts)
    steps: list[Step] = [Cast(dtype)]
    if facts.n_mels not in shape[-2:]:
        raise ExportError(f"{name!r} is {shape}, and neither of its last two axes is n_mels, {facts.n_mels}")
    bands_first = shape[-2] == facts.n_mels
    if bands_first:
        steps.append(Transpose((0, 2, 1)))
    if len(shape) == 4:
        steps.append(Reshape((0, 1, facts.n_mels, -1) if bands_first else (0, 1, -1, facts.n_mels)))
    return Front("log_mel", Input("float32", ("batch", frames, facts.n_mels)), facts, name, steps)


def _image(name: str, dtype: str, shape: tuple[int | str, ...], choice: Choice) -> Front:
    if len(shape) != 4 or 3 not in (shape[1], shape[3]):
        raise ExportError(f"{name!r} is {shape}; an image's is (batch, 3, size, size) or (batch, size, size, 3)")
    channels_first = shape[1] == 3
    size = shape[2] if isinstance(shape[2], int) else None
    given: dict[str, Any] = {"size": size, "crop_fraction": 0.875, "interpolation": "bicubic"}
    said = dict(choice.preprocess or {})
    if dtype == "uint8":
        _check_unsaid(name, said)
        given |= {"mean": (0.0,), "std": (1.0,)}
    given |= said
    if missing := [key for key in ("size", "mean", "std") if not given.get(key)]:
        raise ExportError(
            f"say {', '.join(missing)} of the images, on the scale of 0 to 255: --preprocess "
            '\'{"size": 224, "mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]}\''
        )
    facts = cast(ImagePreprocess, _recipe(choice, given))
    steps: list[Step] = [Cast("float32"), Scale(facts.mean, facts.std), Cast(dtype)] if dtype != "uint8" else []
    if channels_first:
        steps.append(Transpose((0, 3, 1, 2)))
    return Front("image", Input("uint8", ("batch", facts.size, facts.size, 3)), facts, name, steps)


def _check_unsaid(name: str, said: Mapping[str, Any]) -> None:
    if unheeded := [key for key in ("mean", "std") if key in said]:
        raise ExportError(
            f"{name!r} takes bytes, so {' and '.join(unheeded)} would be heeded by nothing; leave them out of "
            "--preprocess: such a graph normalises by itself"
        )


def _text(name: str, dtype: str, shape: tuple[int | str, ...], choice: Choice) -> Front:
    if len(shape) not in (0, 2) or np.dtype(dtype).kind != "i":
        raise ExportError(f"{name!r} is {dtype} {shape}; a text's token ids are int64 (batch, tokens)")
    if shape and isinstance(shape[1], int):
        raise ExportError(
            f"{name!r} takes {shape[1]} tokens and no other number; export the network with a free axis of tokens"
        )
    facts = _recipe(choice, dict(choice.preprocess or {}))
    steps = [Cast(dtype)] if dtype != "int64" else []
    return Front("input_ids", Input("int64", ("batch", "tokens")), facts, name, steps)


def _recipe(choice: Choice, facts: Mapping[str, Any]) -> Preprocess:
    return recipe_of(choice.modality or "array", facts)


def _dtype(graph_input: Any) -> str:
    kind = graph_input.type.tensor_type.elem_type
    try:
        return str(helper.tensor_dtype_to_np_dtype(kind))
    except (KeyError, ValueError):
        raise ExportError(f"{graph_input.name!r} takes no numbers; only such a graph can be a backbone") from None


def _draw(shape: tuple[int, ...], dtype: str, seed: int) -> NDArray[Any]:
    """Return numbers as a network may expect them: normal ones, bytes, or for other integers 0 and 1."""
    draw = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return draw.standard_normal(shape).astype(dtype)
    return draw.integers(0, 256 if dtype == "uint8" else 2, shape).astype(dtype)


def _npy(array: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()
