"""A backbone's facts, as `spec.json` holds them beside the weights, and the fingerprint that they give.

A backbone folder holds `model.onnx`, `spec.json`, `golden.npz`, for texts `tokenizer.json` and, where the weights are
larger than one ONNX file can be, `weights.bin`. The fingerprint covers all that may change the embedding of the same
bytes, and nothing else: renaming a backbone, or mending its licence note, leaves it as it was.
"""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from extractor.errors import BackboneInvalid, BackboneNotFound
from extractor.fidelity import Report
from extractor.recipes import Preprocess, parse_preprocess

PRECISIONS = ("fp32", "fp16", "bf16", "int8")
FORMAT = 2  # of spec.json; a newer one is refused
WITHOUT_REPORT = 1  # the format of specs that have none: older versions read them too
SPEC_FILE = "spec.json"
MODEL_FILE = "model.onnx"
GOLDEN_FILE = "golden.npz"
WEIGHTS_FILE = "weights.bin"  # of a graph whose weights are larger than one ONNX file can be
TOKENIZER_FILE = "tokenizer.json"
PLAN_FILE = "plan.json"  # how to run it on each machine; not part of the spec

MASK, LENGTHS = "attention_mask", "lengths"
PADDING_INPUTS = {MASK, LENGTHS}  # by which a graph knows what is padding

_UNCHANGING = {GOLDEN_FILE}  # files that check an embedding and take no part in making it


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
        `image`, `text`, `array` or `audio`.
    dim : int
        Length of an embedding.
    pooling : str
        How the graph turns the last feature map or token states into one vector.
    precision : str
        What the network is computed in: one of `PRECISIONS`. An embedding computed in another precision belongs to
        another fingerprint, be the weights in the file the same, as for bf16, or not.
    input : dict of str to Input
        The graph's inputs by name, the batch axis first. Where items vary in length so does the second axis, and one of
        `attention_mask` int64 (batch, length) and `lengths` int64 (batch,) may say what is padding; a graph that takes
        neither is given items of one length.
    preprocess : Preprocess
        What happens between decoding and the graph; see `extractor.recipes`.
    source, licence : str
        Where the weights come from, and on what terms.
    files : dict of str to str
        SHA-256, in hex, of every other file of the folder.
    report : Report, optional
        What was measured when it was made in another precision than fp32.
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
    report: Report | None = None

    @property
    def values(self) -> str:
        """The input that holds the items themselves."""
        (name,) = self.input.keys() - PADDING_INPUTS
        return name

    @property
    def varies(self) -> bool:
        """Whether items differ in length."""
        return isinstance(next(iter(self.input[self.values].shape[1:]), None), str)

    @property
    def pads(self) -> bool:
        """Whether items of different lengths may share a batch."""
        return not self.input.keys().isdisjoint(PADDING_INPUTS)

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
    facts = _plain(spec)
    if spec.report is None:
        del facts["report"]
    form = WITHOUT_REPORT if spec.report is None else FORMAT
    text = json.dumps({"format": form, **facts}, indent=2, ensure_ascii=False)
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


def graph_bytes(folder: Path) -> int:
    """Return the size of a backbone's graph and its weights."""
    return sum(path.stat().st_size for name in (MODEL_FILE, WEIGHTS_FILE) if (path := folder / name).exists())


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
        if found not in (WITHOUT_REPORT, FORMAT):
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
    _check_inputs(inputs)
    preprocess = parse_preprocess(facts["modality"], facts["preprocess"])
    report = facts.get("report")
    report = None if report is None else Report.parse(report)
    if report is not None and facts["precision"] == "fp32":  # its proof would be as lax as the report says
        raise ValueError("fp32 is what others are compared with; it has no report")
    return Spec(**{**facts, "files": files, "input": inputs, "preprocess": preprocess, "report": report})


def _check_inputs(inputs: dict[str, Input]) -> None:
    values = inputs.keys() - PADDING_INPUTS
    if len(values) != 1:
        raise ValueError(f"input has {sorted(values)} beside {sorted(PADDING_INPUTS)}; one holds the items")


def _check_positive(name: str, value: Any) -> None:
    if type(value) is not int or value < 1:
        raise ValueError(f"{name} is {value!r}, not a positive integer")
