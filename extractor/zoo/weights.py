"""A file of weights -> a state dict of tensors; a file that holds anything else is refused, and nothing of it is run.

Read are safetensors, what torch saves of a state dict, and the zip files of Stable-Baselines3, whose `policy.pth` is
one. torch reads its files with `weights_only`, which knows tensors and plain containers, and calls nothing else.
"""

import io
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from extractor.errors import ExportError
from extractor.spec import sha256 as sha256_of
from extractor.zoo.choice import Choice

Weights = dict[str, torch.Tensor]

_WRAPPED = ("state_dict", "model_state_dict", "model")  # under which training scripts keep it
_PARALLEL = "module."  # what DataParallel puts before every name
_POLICY = "policy.pth"
_FORBIDDEN = re.compile(r"GLOBAL ([\w.]+)")  # as torch calls what it does not run
HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.(?:pth?|safetensors)$")  # PyTorch's convention for published files
_MAX_INFLATION = 10
_SHOWN = 3  # names that an error lists


def read_weights(path: Path, sha256: str | None = None) -> Weights:
    """Read a state dict.

    Parameters
    ----------
    path : Path
    sha256 : str, optional
        What the file's SHA-256 has to begin with, in hex; by default what its name says, as in `resnet18-f37072fd.pth`.

    Raises
    ------
    ExportError
        The file is missing, another than was wanted, cut short, or holds anything but tensors.
    """
    _check_hash(path, sha256)
    try:
        loaded = _load(path)
    except ExportError:
        raise
    except UnpicklingError as error:
        raise ExportError(
            f"{path} holds more than weights{_code(error)}, or was cut short; nothing of it was executed; save the "
            "state dict alone, best as safetensors"
        ) from None
    except Exception as error:  # torch's, zip's and safetensors' exceptions share no root
        raise ExportError(
            f"{path} is no file of weights, or was cut short ({_first_line(error)}); copy it again"
        ) from None
    return _tensors(path, loaded)


def bring_weights(network: torch.nn.Module, choice: Choice) -> str:
    """Give a network the weights of the file that was chosen, and return what tells the file; raises ExportError."""
    path = Path(choice.weights or "")
    load_weights(network, read_weights(path, choice.sha256), path)
    return f"{path.name}, SHA-256 {sha256_of(path)}"


def load_weights(network: torch.nn.Module, weights: Weights, path: Path | str) -> None:
    """Give a network all its weights; raises ExportError where names or shapes differ."""
    try:
        missing, unexpected = network.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        raise ExportError(
            f"{path} has weights of other shapes than the network's: {_first_line(error, skip=1).rstrip('.')}; say "
            "with --arguments what it was made with: '{\"num_classes\": 14}'"
        ) from None
    if missing or unexpected:
        raise ExportError(
            f"{path} is of another network: {_some('it lacks', missing)}{_some('it has besides', unexpected)}"
            "choose the architecture that it was saved from"
        )


def _check_hash(path: Path, wanted: str | None) -> None:
    if not path.is_file():
        raise ExportError(f"there is no file of weights {path}; name one")
    in_name = HASH_IN_NAME.search(path.name)
    wanted = wanted or (in_name.group(1) if in_name else None)
    if wanted and not (found := sha256_of(path)).startswith(wanted.lower()):
        raise ExportError(
            f"{path} has SHA-256 {found}, not {wanted}: it was changed or cut short; nothing of it was read; "
            "remove it, and fetch or copy it again"
        )


def _load(path: Path) -> Any:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    source: Any = path
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            _check_inflation(path, archive)
            if _POLICY in archive.namelist():
                source = io.BytesIO(archive.read(_POLICY))
    with warnings.catch_warnings():  # of old protocols; what cannot be read is an error
        warnings.simplefilter("ignore")
        return torch.load(source, map_location="cpu", weights_only=True)


def _check_inflation(path: Path, archive: zipfile.ZipFile) -> None:
    """Refuse a bomb: weights hardly compress, and torch and Stable-Baselines3 do not try."""
    n_bytes, limit = sum(one.file_size for one in archive.infolist()), _MAX_INFLATION * path.stat().st_size
    if n_bytes > limit:
        raise ExportError(
            f"{path} would unpack to {n_bytes:,} bytes, the limit is {limit:,}, {_MAX_INFLATION} times its size; save "
            "the weights uncompressed, best as safetensors"
        )


def _tensors(path: Path, loaded: Any) -> Weights:
    for _ in _WRAPPED:  # not for ever: a pickle may hold itself
        if isinstance(loaded, Mapping) and (key := next((one for one in _WRAPPED if one in loaded), None)):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping) or not loaded:
        raise ExportError(f"{path} holds a {type(loaded).__name__}, not a state dict; save network.state_dict()")
    strange = [str(name) for name, value in loaded.items() if not isinstance(value, torch.Tensor)]
    if strange:
        raise ExportError(f"{path} holds {strange[0]!r}, which is no tensor; save network.state_dict() alone")
    if all(str(name).startswith(_PARALLEL) for name in loaded):
        return {str(name).removeprefix(_PARALLEL): value for name, value in loaded.items()}
    return {str(name): value for name, value in loaded.items()}


def _some(what: str, names: list[str]) -> str:
    if not names:
        return ""
    more = ", …" if len(names) > _SHOWN else ""
    return f"{what} {len(names)} ({', '.join(names[:_SHOWN])}{more}); "


def _code(error: UnpicklingError) -> str:
    """Return what the file wanted to run; torch's own message tells how to let it."""
    found = _FORBIDDEN.search(str(error))
    return f", such as {found[1]}" if found else ""


def _first_line(error: Exception, skip: int = 0) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return lines[min(skip, len(lines) - 1)][:200]
