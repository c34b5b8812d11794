"""An installed backbone -> one of another precision: the same files, another spec, and so another fingerprint."""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from extractor.backbone import Backbone
from extractor.errors import ExportError
from extractor.home import backbones_folder
from extractor.plan import Plan
from extractor.proof import Proof
from extractor.runtime import default
from extractor.spec import PRECISIONS, Spec, read_spec, verify_files, write_spec
from extractor.zoo.new_folder import new_folder

REFERENCE = "fp32"  # what the weights and the golden embeddings are in


def derived_name(name: str, precision: str) -> str:
    """Return what a backbone is called in another precision: `NAME@bf16`."""
    return f"{name}@{precision}"


def derive(
    source: Path, precision: str, target: Path | None = None, *, progress: Callable[[str], None] | None = None
) -> Path:
    """Make a backbone of another precision from one in fp32, which stays as it is.

    Its golden embeddings stay those of the reference framework: the new one proves itself against them, within the
    tolerance of its precision.

    Parameters
    ----------
    source : Path
        A backbone folder.
    precision : str
        One of `extractor.spec.PRECISIONS`, other than `fp32`.
    target : Path, optional
        By default `HEADWATER_HOME/backbones/NAME@PRECISION`.
    progress : callable, optional
        Called with a few words as each step begins.

    Returns
    -------
    Path
        The new folder.

    Raises
    ------
    ExportError
        The source is not in fp32, there is no such precision, or the folder cannot be written.
    RuntimeMissing, ProviderUnavailable
        Nothing on this machine computes in that precision.
    BackboneInvalid
        In that precision the network stands too far from its golden embeddings.
    """
    tell = progress or (lambda _step: None)
    spec = read_spec(source)
    _check(spec, precision)
    runtime, provider = default(precision)
    verify_files(source, spec)
    name = derived_name(spec.name, precision)
    target = target or backbones_folder() / name
    if target.resolve() == source.resolve():
        raise ExportError(
            f"{target} is the backbone itself; what was learnt on it would be lost: choose another folder"
        )
    try:
        with new_folder(target) as fresh:
            for file in spec.files:
                _link(source / file, fresh / file)
            new = replace(spec, name=name, precision=precision)
            write_spec(fresh, new)
            tell(f"comparing {runtime} in {precision} with the golden embeddings")
            Proof.load(new, fresh).check(Backbone.load(fresh, new, Plan(runtime=runtime, provider=provider)))
    except OSError as error:
        raise ExportError(
            f"{target} cannot be written: {error.strerror or error}; free some space or choose another folder"
        ) from error
    return target


def _check(spec: Spec, precision: str) -> None:
    others = [name for name in PRECISIONS if name != REFERENCE]
    if precision not in others:
        raise ExportError(f"precision is {precision!r}; a backbone can be derived in {', '.join(others)}")
    if spec.precision != REFERENCE:
        raise ExportError(f"{spec.name!r} is in {spec.precision}; derive from the backbone in {REFERENCE}")


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)  # no file of a backbone is ever changed in place
    except OSError:
        shutil.copyfile(source, target)
