"""An installed backbone -> one of another precision: its own graph or the same, another spec, another fingerprint."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from extractor.backbone import Backbone, collate
from extractor.comparison import embed_alone
from extractor.errors import ExportError, ExtractorError, ItemError, RuntimeMissing
from extractor.fidelity import MIN_GOLDEN, HeadAccuracy, Report
from extractor.golden import differences
from extractor.home import backbones_folder
from extractor.outcome import Embedding
from extractor.plan import Plan
from extractor.prepare import load_prepare
from extractor.proof import Proof
from extractor.runtime import default
from extractor.spec import (
    MODEL_FILE,
    PRECISIONS,
    WEIGHTS_FILE,
    Spec,
    graph_bytes,
    read_spec,
    sha256,
    verify_files,
    write_spec,
)
from extractor.zoo.new_folder import new_folder

if TYPE_CHECKING:
    from extractor.precision.graphs import Caster
    from extractor.precision.mixed import Mixture

REFERENCE = "fp32"  # what the weights and the golden embeddings are in
AS_IS = ("bf16",)  # computed by a runtime from the very file in fp32
FLOOR = 0.995  # mean cosine to fp32
MIN_HELD = 16  # fewer say little of neighbours
GRAPH_FILES = (MODEL_FILE, WEIGHTS_FILE)
MAX_GRAPH_BYTES = 2_000_000_000  # what onnxruntime's own tools take in one message
SENSED = 16  # items by which layers are compared

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
        Items from which the ranges of int8 are taken; none of the held ones. Others that are prepared alike, such as a
        text that differs from a held one by its case, are left out.
    floor : float
        The least mean cosine to fp32.
    judge : callable, optional
        Given the embeddings (n, dim) of the held items in fp32 and in the precision, returns how a head does on both.
    names : mapping of bytes to str
        What errors call an item; by default its number.
    """

    held: Sequence[bytes]
    calibration: Sequence[bytes] = ()
    floor: float = FLOOR
    judge: Judge | None = None
    names: Mapping[bytes, str] = field(default_factory=dict)


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
    check(spec, precision)
    _check_terms(precision, terms)
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
            making = _Making(
                source=source,
                fresh=fresh,
                scratch=Path(scratch),
                spec=new,
                plan=Plan(runtime=runtime, provider=provider),
                terms=terms,
                tell=tell,
            )
            making.fill()
    except ModuleNotFoundError as error:
        if error.name != "onnx":
            raise
        raise RuntimeMissing(f"making {precision} takes onnx: pip install 'headwater[export]'") from None
    except OSError as error:
        raise ExportError(
            f"{target} cannot be written: {error.strerror or error}; free some space there, and in "
            f"{tempfile.gettempdir()}, or choose another folder"
        ) from error
    return target


def check(spec: Spec, precision: str) -> None:
    """Raise ExportError where a backbone cannot be derived in a precision."""
    others = [name for name in PRECISIONS if name != REFERENCE]
    if precision not in others:
        raise ExportError(f"precision is {precision!r}; a backbone can be derived in {', '.join(others)}")
    if spec.precision != REFERENCE:
        raise ExportError(f"{spec.name!r} is in {spec.precision}; derive from the backbone in {REFERENCE}")


def _check_terms(precision: str, terms: Terms | None) -> None:
    if precision == "int8" and not (terms and terms.calibration):
        raise ExportError("int8 takes its ranges from items, and there are none; name some to calibrate on")
    if terms is None:
        return
    if not -1 <= terms.floor <= 1:
        raise ExportError(f"the floor is {terms.floor}, and a cosine lies between -1 and 1; {FLOOR} is the default")
    if len(terms.held) < MIN_HELD:
        raise ExportError(
            f"there are {len(terms.held)} held items, and it takes at least {MIN_HELD} to compare with fp32; name more"
        )
    if both := set(terms.held) & set(terms.calibration):
        raise ExportError(
            f"{len(both)} of the held items are calibrated on too, which would flatter; leave them out of either"
        )


@dataclass(frozen=True, kw_only=True)
class _Making:
    """A backbone in the making: where it comes from, the folder to fill, one for scratch, its spec so far."""

    source: Path
    fresh: Path
    scratch: Path
    spec: Spec
    plan: Plan
    terms: Terms | None
    tell: Tell

    def fill(self) -> None:
        """Write the files, the graph and the spec, and let a session prove itself."""
        for file in self.spec.files:
            if file not in GRAPH_FILES or self.spec.precision in AS_IS:
                _link(self.source / file, self.fresh / file)
        report = self._measured(self.terms) if self.terms else self._unmeasured()
        files = {path.name: sha256(path) for path in sorted(self.fresh.iterdir())}
        new = replace(self.spec, report=report, files=files)
        write_spec(self.fresh, new)
        self.tell(f"comparing {self.plan.runtime} in {new.precision} with the golden embeddings")
        Proof.load(new, self.fresh).check(Backbone.load(self.fresh, new, self.plan))

    def _unmeasured(self) -> Report | None:
        """Write the graph."""
        with self._turning():
            caster = self._caster(())
            if caster.mixes:
                from extractor.zoo.onnx_save import save_onnx

                save_onnx(caster.graph(()), self.fresh / MODEL_FILE)
        return None

    @contextmanager
    def _turning(self) -> Iterator[None]:
        """Say of what onnx and onnxruntime raise that they cannot turn the graph."""
        try:
            yield
        except (ExtractorError, ImportError, OSError):
            raise
        except Exception as error:  # those of onnx and of onnxruntime's quantisation share no root
            raise ExportError(
                f"{self.spec.name} is not made: onnxruntime cannot turn this graph to {self.spec.precision} ({error}); "
                "stay with fp32"
            ) from error

    def _caster(self, calibration: Sequence[NDArray[Any]]) -> "Caster":
        path = self.source / MODEL_FILE
        if self.spec.precision in AS_IS:
            from extractor.precision.bf16 import Bf16

            return Bf16(path)
        if (n_bytes := graph_bytes(self.source)) > MAX_GRAPH_BYTES:
            raise ExportError(
                f"{self.spec.name} is not made: the graph in fp32 has {n_bytes:,} bytes, and onnxruntime turns at most "
                f"{MAX_GRAPH_BYTES:,} to another precision; stay with fp32, or take bf16, which leaves it as it is"
            )
        if self.spec.precision == "fp16":
            from extractor.precision.fp16 import Fp16

            return Fp16.load(path)
        from extractor.precision.int8 import Int8

        self.tell(f"calibrating on {len(calibration)} items")
        made = Int8.calibrate(path, (collate(self.spec, [array]) for array in calibration), self.scratch)
        if not made.layers:
            raise ExportError(
                f"{self.spec.name} is not made: no layer has weights that 8 bits could hold; stay with fp32"
            )
        return made

    def _measured(self, terms: Terms) -> Report:
        """Write the graph that meets the floor, and say how near it stands."""
        held = list(self._prepared(terms.held, "held", terms.names))
        calibration = self._calibration(terms, held)
        with self._turning():
            mixture = self._mixture(self._caster(calibration), calibration, held)
            fit = mixture.fit(terms.floor)
        return Report(
            fidelity=fit.fidelity,
            floor=terms.floor,
            golden_cosine=self._golden_cosine(),
            n_calibrated=len(calibration) if self.spec.precision == "int8" else 0,
            kept_fp32=fit.kept,
            head=terms.judge(mixture.expected, fit.embeddings) if terms.judge else None,
        )

    def _calibration(self, terms: Terms, held: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """Return the prepared items to calibrate on, without those that are prepared as a held one is."""
        marks = set(map(_mark, held))
        prepared = self._prepared(terms.calibration, "calibration", terms.names)
        found = [array for array in prepared if _mark(array) not in marks]
        if terms.calibration and not found:
            raise ExportError("every item to calibrate on is, once prepared, a held one; name others")
        return found

    def _mixture(
        self, caster: "Caster", calibration: Sequence[NDArray[Any]], held: Sequence[NDArray[Any]]
    ) -> "Mixture":
        from extractor.precision.mixed import Mixture

        self.tell(f"comparing {self.spec.precision} with {REFERENCE} on {len(held)} held items")
        felt = calibration or held
        reference = Backbone.load(self.source, read_spec(self.source))
        return Mixture(
            caster=caster,
            folder=self.fresh,
            scratch=self.scratch,
            spec=self.spec,
            plan=self.plan,
            reference=reference,
            sensed=felt[:: -(-len(felt) // SENSED)],
            held=held,
            expected=embed_alone(reference, held),
            tell=self.tell,
        )

    def _golden_cosine(self) -> float:
        """Return the least cosine to the golden embeddings; raise ExportError where it would prove nothing."""
        proof = Proof.load(self.spec, self.fresh)
        golden = embed_alone(Backbone.load(self.fresh, self.spec, self.plan), proof.arrays)
        cosine, _ = differences(golden, proof.expected)
        if not cosine >= MIN_GOLDEN:
            raise ExportError(
                f"{self.spec.name} is not made: its least cosine to the golden embeddings is {cosine:.5f}, below "
                f"{MIN_GOLDEN}, and would prove nothing where it is served; stay with fp32, or raise the floor"
            )
        return cosine

    def _prepared(self, items: Sequence[bytes], what: str, names: Mapping[bytes, str]) -> Iterator[NDArray[Any]]:
        prepare = load_prepare(self.spec, self.source)
        for number, item in enumerate(items):
            try:
                yield prepare(item).array
            except ItemError as error:
                raise type(error)(f"{what} item {names.get(item, number)}: {error}") from None


def _mark(array: NDArray[Any]) -> tuple[tuple[int, ...], bytes]:
    """Return what two prepared items share only if they are the same."""
    return array.shape, hashlib.sha256(array.tobytes()).digest()


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)  # no file of a backbone is ever changed in place
    except OSError:
        shutil.copyfile(source, target)
