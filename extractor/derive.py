"""An installed backbone -> one of another precision: its own graph or the same, another spec, another fingerprint."""

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from extractor.backbone import Backbone, collate
from extractor.errors import ExportError, RuntimeMissing
from extractor.fidelity import HeadAccuracy, Report
from extractor.golden import differences
from extractor.home import backbones_folder
from extractor.outcome import Embedding
from extractor.plan import Plan
from extractor.prepare import load_prepare
from extractor.proof import Proof
from extractor.runtime import default
from extractor.spec import MODEL_FILE, PRECISIONS, Spec, read_spec, sha256, verify_files, write_spec
from extractor.zoo.new_folder import new_folder

if TYPE_CHECKING:
    from extractor.precision.graphs import Caster

REFERENCE = "fp32"  # what the weights and the golden embeddings are in
AS_IS = ("bf16",)  # computed by a runtime from the very file in fp32
FLOOR = 0.995  # mean cosine to fp32
MIN_HELD = 16  # fewer say little of neighbours

Judge = Callable[[Embedding, Embedding], HeadAccuracy | None]
Tell = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What another precision is measured with, and what it has to hold.

    Parameters
    ----------
    held : sequence of bytes
        Items on which it is compared with fp32.
    calibration : sequence of bytes
        Items from which the ranges of int8 are taken; none of the held ones.
    floor : float
        The least mean cosine to fp32.
    judge : callable, optional
        Given the embeddings (n, dim) of the held items in fp32 and in the precision, returns how a head does on both.
    """

    held: Sequence[bytes]
    calibration: Sequence[bytes] = ()
    floor: float = FLOOR
    judge: Judge | None = None


def derived_name(name: str, precision: str) -> str:
    """Return what a backbone is called in another precision: `NAME@bf16`."""
    return f"{name}@{precision}"


def derive(
    source: Path,
    precision: str,
    target: Path | None = None,
    *,
    terms: Terms | None = None,
    progress: Tell | None = None,
) -> Path:
    """Make a backbone of another precision from one in fp32, which stays as it is.

    Its golden embeddings stay those of the reference framework. With terms it is compared with fp32, and its spec says
    how near it stands; where it misses the floor, as few of the worst layers as are enough stay in fp32.

    Parameters
    ----------
    source : Path
        A backbone folder.
    precision : str
        One of `extractor.spec.PRECISIONS`, other than `fp32`.
    target : Path, optional
        By default `HEADWATER_HOME/backbones/NAME@PRECISION`.
    terms : Terms, optional
        Int8 cannot do without.
    progress : callable, optional
        Called with a few words as each step begins.

    Returns
    -------
    Path
        The new folder.

    Raises
    ------
    ExportError
        The source is not in fp32, there is no such precision, the terms are none, the floor is missed (the message
        names the worst layers), or the folder cannot be written. Nothing is left behind.
    RuntimeMissing, ProviderUnavailable
        Nothing on this machine computes in that precision, or onnx is not installed.
    BackboneInvalid
        In that precision the network stands too far from its golden embeddings.
    ItemError
        An item cannot be prepared.
    """
    tell = progress or (lambda _step: None)
    spec = read_spec(source)
    _check(spec, precision, terms)
    runtime, provider = default(precision)
    verify_files(source, spec)
    new = replace(spec, name=derived_name(spec.name, precision), precision=precision)
    target = target or backbones_folder() / new.name
    if target.resolve() == source.resolve():
        raise ExportError(
            f"{target} is the backbone itself; what was learnt on it would be lost: choose another folder"
        )
    try:
        with new_folder(target) as fresh, tempfile.TemporaryDirectory(prefix="headwater-precision-") as scratch:
            _fill(fresh, source, new, Plan(runtime=runtime, provider=provider), terms, Path(scratch), tell)
    except OSError as error:
        raise ExportError(
            f"{target} cannot be written: {error.strerror or error}; free some space or choose another folder"
        ) from error
    return target


def _check(spec: Spec, precision: str, terms: Terms | None) -> None:
    others = [name for name in PRECISIONS if name != REFERENCE]
    if precision not in others:
        raise ExportError(f"precision is {precision!r}; a backbone can be derived in {', '.join(others)}")
    if spec.precision != REFERENCE:
        raise ExportError(f"{spec.name!r} is in {spec.precision}; derive from the backbone in {REFERENCE}")
    if precision == "int8" and not (terms and terms.calibration):
        raise ExportError("int8 takes its ranges from items, and there are none; name some to calibrate on")
    if terms is None:
        return
    if not -1 <= terms.floor <= 1:
        raise ExportError(f"the floor is {terms.floor}, and a cosine lies between -1 and 1; 0.995 is the default")
    if len(terms.held) < MIN_HELD:
        raise ExportError(f"there are {len(terms.held)} held items; it takes at least {MIN_HELD} to compare with fp32")
    if both := set(terms.held) & set(terms.calibration):
        raise ExportError(
            f"{len(both)} held items are calibrated on, and would tell too much good of it; leave them out of one"
        )


def _fill(
    fresh: Path, source: Path, new: Spec, plan: Plan, terms: Terms | None, scratch: Path, tell: Tell
) -> None:
    for file in new.files:
        if file != MODEL_FILE or new.precision in AS_IS:
            _link(source / file, fresh / file)
    caster = _caster(source, new, terms, scratch, tell)
    if terms is None:
        _write(caster, fresh)
    else:
        new = replace(new, report=_report(caster, fresh, source, new, plan, terms, scratch, tell))
    new = replace(new, files={**new.files, MODEL_FILE: sha256(fresh / MODEL_FILE)})
    write_spec(fresh, new)
    tell(f"comparing {plan.runtime} in {new.precision} with the golden embeddings")
    Proof.load(new, fresh).check(Backbone.load(fresh, new, plan))


def _caster(source: Path, new: Spec, terms: Terms | None, scratch: Path, tell: Tell) -> "Caster":
    path = source / MODEL_FILE
    try:
        if new.precision in AS_IS:
            from extractor.precision.bf16 import Bf16

            return Bf16(path)
        if new.precision == "fp16":
            from extractor.precision.fp16 import Fp16

            return Fp16.load(path)
        from extractor.precision.int8 import Int8
    except ImportError as error:
        raise RuntimeMissing(
            f"another precision takes {error.name or 'onnx'}: pip install 'headwater[export]'"
        ) from None
    items = terms.calibration if terms else ()
    tell(f"calibrating on {len(items)} items")
    prepare = load_prepare(new, source)
    return Int8.calibrate(path, (collate(new, [prepare(item).array]) for item in items), scratch)


def _write(caster: "Caster", fresh: Path) -> None:
    if caster.mixes:
        (fresh / MODEL_FILE).write_bytes(caster.graph(()))


def _report(
    caster: "Caster", fresh: Path, source: Path, new: Spec, plan: Plan, terms: Terms, scratch: Path, tell: Tell
) -> Report:
    """Write the graph that meets the floor, and say how near it stands."""
    from extractor.precision.mixed import Mixture

    prepare = load_prepare(new, fresh)
    held = [prepare(item).array for item in terms.held]
    tell(f"comparing {new.precision} with {REFERENCE} on {len(held)} held items")
    mixture = Mixture(
        caster=caster,
        folder=fresh,
        scratch=scratch,
        spec=new,
        plan=plan,
        sensed=[prepare(item).array for item in terms.calibration] or held,
        held=held,
        reference=Backbone.load(source, read_spec(source)),
        tell=tell,
    )
    fit = mixture.fit(terms.floor)
    proof = Proof.load(new, fresh)
    golden = Backbone.load(fresh, new, plan).forward(proof.arrays)
    return Report(
        fidelity=fit.fidelity,
        floor=terms.floor,
        golden_cosine=differences(golden, proof.expected)[0],
        n_calibrated=len(terms.calibration) if new.precision == "int8" else 0,
        kept_fp32=fit.kept,
        head=terms.judge(mixture.expected, fit.embeddings) if terms.judge else None,
    )


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)  # no file of a backbone is ever changed in place
    except OSError:
        shutil.copyfile(source, target)
