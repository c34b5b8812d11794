"""A backbone's facts, as `spec.json` holds them beside the weights, and the fingerprint that they give.

A backbone folder holds `model.onnx`, `spec.json`, `golden.npz` and, for texts, `tokenizer.json`. The
fingerprint covers all that may change the embedding of the same bytes, and nothing else: renaming a backbone,
or mending its licence note, leaves it as it was.
"""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from extractor.errors import BackboneInvalid, BackboneNotFound

PRECISIONS = ("fp32", "bf16")
INTERPOLATIONS = ("bicubic", "bilinear")
FORMAT = 1  # of spec.json; a newer one is refused
SPEC_FILE = "spec.json"
MODEL_FILE = "model.onnx"
GOLDEN_FILE = "golden.npz"
TOKENIZER_FILE = "tokenizer.json"
PLAN_FILE = "plan.json"  # how to run it on each machine; not part of the spec

_UNCHANGING = {GOLDEN_FILE}  # files that check an embedding and take no part in making it


@dataclass(frozen=True)
class ImagePreprocess:
    """How an image becomes the graph's uint8 input.

    Parameters
    ----------
    recipe : str
        The algorithm, with its revision: `center-crop/1` takes the central square of
        `crop_fraction` of the short side and resizes it to `size` in one step.
    size : int
        Height and width of the graph's input, in pixels.
    crop_fraction : float
        Share of the short side that the central square keeps, in (0, 1].
    interpolation : str
        `bicubic` or `bilinear`, as Pillow computes them.
    mean, std : tuple of float
        What the graph subtracts and divides by, on the 0–255 scale; stated here as facts, applied in the graph.
    """

    size: int
    crop_fraction: float
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    recipe: str = "center-crop/1"


@dataclass(frozen=True)
class TextPreprocess:
    """How a text becomes token ids.

    Parameters
    ----------
    recipe : str
        The algorithm, with its revision: `tokenizer/1` runs `tokenizer.json` on the UTF-8 text.
    max_tokens : int
        Longer texts are cut to this many tokens, special ones counted in, and the outcome says so.
    """

    max_tokens: int
    recipe: str = "tokenizer/1"


Preprocess = ImagePreprocess | TextPreprocess

_PREPROCESS: dict[str, dict[str, type[ImagePreprocess] | type[TextPreprocess]]] = {
    "image": {"center-crop/1": ImagePreprocess},
    "text": {"tokenizer/1": TextPreprocess},
}


@dataclass(frozen=True)
class Input:
    """One input of the graph: its dtype, and its shape with a name where the axis varies."""

    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class Spec:
    """The facts of a backbone.

    Parameters
    ----------
    name : str
        What requests call it.
    modality : str
        `image` or `text`.
    dim : int
        Length of an embedding.
    pooling : str
        How the graph turns the last feature map or token states into one vector.
    precision : str
        What the network is computed in: `fp32` or `bf16`. The weights in the file are the same; an embedding computed
        in another precision belongs to another fingerprint.
    input : dict of str to Input
        The graph's inputs by name.
    preprocess : ImagePreprocess or TextPreprocess
        What happens between decoding and the graph.
    source, licence : str
        Where the weights come from, and on what terms.
    files : dict of str to str
        SHA-256, in hex, of every other file of the folder.
    """

    name: str
    modality: str
    dim: int
    pooling: str
    precision: str
    input: dict[str, Input]
    preprocess: Preprocess
    source: str
    licence: str
    files: dict[str, str]

    @cached_property
    def fingerprint(self) -> str:
        """128 bits, in hex, of the SHA-256 over all that may change the embedding of the same bytes."""
        facts = _plain(self)
        kept = ("modality", "dim", "pooling", "precision", "input", "preprocess")
        covered = {key: facts[key] for key in kept}
        covered["files"] = {name: digest for name, digest in self.files.items() if name not in _UNCHANGING}
        canonical = json.dumps(covered, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:32]


def read_spec(folder: Path) -> Spec:
    """Read `spec.json` of a backbone folder.

    Raises
    ------
    BackboneNotFound
        The folder has no `spec.json`.
    BackboneInvalid
        The file is malformed, or of a format newer than this version reads.
    """
    path = folder / SPEC_FILE
    try:
        facts = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise BackboneNotFound(f"{folder} is no backbone folder: it has no {SPEC_FILE}") from None
    except ValueError as error:
        raise BackboneInvalid(f"{path} is not JSON ({error}); export the backbone again") from None
    return _parse(facts, path)


def write_spec(folder: Path, spec: Spec) -> None:
    """Write `spec.json` into a backbone folder."""
    text = json.dumps({"format": FORMAT, **_plain(spec)}, indent=2, ensure_ascii=False)
    (folder / SPEC_FILE).write_text(text + "\n", encoding="utf-8")


def verify_files(folder: Path, spec: Spec) -> None:
    """Check every file that the spec names against its SHA-256.

    Raises
    ------
    BackboneInvalid
        A file is missing or does not match; the message names it and both hashes.
    """
    for name, expected in spec.files.items():
        path = folder / name
        if not path.is_file():
            raise BackboneInvalid(f"{path} is missing; export the backbone again")
        found = sha256(path)
        if found != expected:
            raise BackboneInvalid(
                f"{path} has SHA-256 {found}, its spec says {expected}: the file was changed or cut short; "
                "copy or export the backbone again"
            )


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _plain(spec: Spec) -> dict[str, Any]:
    return dataclasses.asdict(spec)


def _parse(facts: Any, path: Path) -> Spec:
    if not isinstance(facts, dict):
        raise BackboneInvalid(f"{path} holds a {type(facts).__name__}, not an object; export the backbone again")
    found = facts.pop("format", None)
    if isinstance(found, int) and found > FORMAT:
        raise BackboneInvalid(
            f"{path} has format {found}, this version reads up to {FORMAT}: it takes a newer Headwater to read it"
        )
    try:
        if found != FORMAT:
            raise ValueError(f"format is {found!r}, not {FORMAT}")
        return _spec(facts)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise BackboneInvalid(f"{path} is malformed ({error}); export the backbone again") from None


def _spec(facts: dict[str, Any]) -> Spec:
    files = dict(facts["files"])
    for name in (MODEL_FILE, GOLDEN_FILE):
        if name not in files:
            raise ValueError(f"files does not list {name}")
    climbing = [name for name in files if Path(name).name != name]
    if climbing:
        raise ValueError(f"files may not name another folder: {climbing[0]!r}")
    _check_positive("dim", facts["dim"])
    if facts["precision"] not in PRECISIONS:
        raise ValueError(f"precision is {facts['precision']!r}, not one of {sorted(PRECISIONS)}")
    inputs = {name: Input(value["dtype"], tuple(value["shape"])) for name, value in facts["input"].items()}
    preprocess = _preprocess(facts["modality"], facts["preprocess"])
    return Spec(**{**facts, "files": files, "input": inputs, "preprocess": preprocess})


def _preprocess(modality: str, facts: dict[str, Any]) -> Preprocess:
    recipes = _PREPROCESS.get(modality)
    if recipes is None:
        raise ValueError(f"modality is {modality!r}, not one of {sorted(_PREPROCESS)}")
    kind = recipes.get(facts["recipe"])
    if kind is None:
        raise ValueError(f"preprocess.recipe is {facts['recipe']!r}, not one of {sorted(recipes)} for {modality}")
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in facts.items()}
    preprocess = kind(**values)
    if isinstance(preprocess, TextPreprocess):
        _check_positive("preprocess.max_tokens", preprocess.max_tokens)
    else:
        _check_image(preprocess)
    return preprocess


def _check_image(facts: ImagePreprocess) -> None:
    _check_positive("preprocess.size", facts.size)
    if facts.interpolation not in INTERPOLATIONS:
        raise ValueError(f"preprocess.interpolation is {facts.interpolation!r}, not one of {INTERPOLATIONS}")
    if not 0 < facts.crop_fraction <= 1:
        raise ValueError(f"preprocess.crop_fraction is {facts.crop_fraction!r}, not above 0 and at most 1")


def _check_positive(name: str, value: Any) -> None:
    if type(value) is not int or value < 1:
        raise ValueError(f"{name} is {value!r}, not a positive integer")
