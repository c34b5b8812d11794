"""A backbone folder -> every plan that was measured, the best of its own precision, and what others would give."""

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from extractor import runtime
from extractor.backbone import Backbone
from extractor.comparison import embed_alone, measure_fidelity
from extractor.derive import AS_IS, REFERENCE, derive
from extractor.errors import BackboneError, InferenceFailed, TuneError
from extractor.fidelity import Fidelity, Floor
from extractor.outcome import Embedding
from extractor.pipeline import Extractor
from extractor.plan import Plan, cores
from extractor.prepare import load_prepare
from extractor.spec import PRECISIONS, Spec, read_spec
from extractor.tune.candidates import Candidate, candidates
from extractor.tune.speed import Speed, measure_speed, medians

ROUNDS = (2, 2, 4)  # in each heat; after a heat the faster half of each precision goes on
TIE = 0.05  # share of the items/s that is taken for noise
COMPARED = 128  # items by which fidelity is measured
OPENING_S = 0.5  # what opening a session takes, until it was measured
MIN_SLICE_S = 0.05
MAX_SLICE_S = 5.0

Progress = Callable[[float, str], None]  # the share that is done, and what is in hand


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What is asked of a plan.

    Parameters
    ----------
    callers : int
        Who ask for one item each, and again once they are answered.
    p99_ms : float, optional
        Bound on the 99th percentile of an item's latency under these callers.
    floor : Floor
    """

    callers: int = 32
    p99_ms: float | None = None
    floor: Floor = field(default_factory=Floor)


@dataclass(kw_only=True, eq=False)
class Row:
    """One candidate: a backbone folder of its precision, its fidelity, its rounds, and why it is not offered."""

    candidate: Candidate
    folder: Path
    fidelity: Fidelity | None = None
    refused: str = ""
    rounds: list[Speed] = field(default_factory=list)

    @property
    def speed(self) -> Speed | None:
        """The medians of the rounds."""
        return medians(self.rounds) if self.rounds else None

    @property
    def items_per_s(self) -> float:
        """Items a second; 0 if it was not measured."""
        return self.speed.items_per_s if self.speed else 0.0


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was measured.

    Parameters
    ----------
    rows : list of Row
        Every candidate.
    best : Row
        The fastest of the backbone's own precision that meets the goal.
    proposals : list of Row
        The fastest of each other precision that meets the goal and outruns `best`: another fingerprint.
    """

    rows: list[Row]
    best: Row
    proposals: list[Row]


def tune(
    folder: Path,
    items: Sequence[bytes],
    goal: Goal,
    *,
    seconds: float,
    progress: Progress = lambda _share, _step: None,
) -> Report:
    """Measure how to run a backbone on this machine.

    Parameters
    ----------
    folder : Path
        A backbone folder.
    items : sequence of bytes
        No two the same.
    goal : Goal
    seconds : float
        About how long to measure; every candidate is measured at least once.
    progress : callable, optional

    Raises
    ------
    TuneError
        No plan of the backbone's own precision meets the goal.
    ItemError
        An item cannot be prepared.
    BackboneError
        The backbone cannot be served at all.
    """
    spec = read_spec(folder)
    goal = replace(goal, callers=min(goal.callers, len(items)))
    with tempfile.TemporaryDirectory(prefix="headwater-tune-") as temporary:
        rows = _rows(folder, spec, Path(temporary))
        progress(0.0, "comparing embeddings")
        _compare(rows, folder, spec, items, goal.floor)
        last = _heats(rows, lambda row, s: _measure(row, items, goal, seconds=s), goal, seconds, progress)
    best = _best(last, spec.precision, goal)
    if best is None:
        raise TuneError(_nothing_fits(rows, spec.precision, goal))
    others = [_best(last, precision, goal) for precision in PRECISIONS if precision != spec.precision]
    return Report(rows=rows, best=best, proposals=[row for row in others if row and row.items_per_s > best.items_per_s])


def _rows(folder: Path, spec: Spec, temporary: Path) -> list[Row]:
    """Return the candidates of the spec's precision, and of those that its own file can be computed in."""
    available = runtime.available()
    rows = [Row(candidate=one, folder=folder) for one in candidates(spec.modality, spec.precision, available)]
    for precision in AS_IS if spec.precision == REFERENCE else ():
        found = candidates(spec.modality, precision, available)
        if not found:
            continue
        target, refused = temporary / precision, ""
        try:
            derive(folder, precision, target)
        except BackboneError as error:
            refused = str(error)
        rows += [Row(candidate=one, folder=target, refused=refused) for one in found]
    return rows


def _compare(rows: list[Row], folder: Path, spec: Spec, items: Sequence[bytes], floor: Floor) -> None:
    """Measure the fidelity of each runtime, provider and precision; refuse the candidates of those below the floor."""
    prepare = load_prepare(spec, folder)
    arrays = [prepare(item).array for item in items[:COMPARED]]
    reference = embed_alone(_reference(folder, spec), arrays)
    found: dict[tuple[str, str, str], Fidelity | str] = {}
    for row in rows:
        if row.refused:
            continue
        key = (row.candidate.precision, row.candidate.plan.runtime, row.candidate.plan.provider)
        if key not in found:
            found[key] = _fidelity(row, arrays, reference)
        result = found[key]
        if isinstance(result, str):
            row.refused = result
        else:
            row.fidelity, row.refused = result, floor.misses(result)


def _reference(folder: Path, spec: Spec) -> Backbone:
    """Return a backbone in fp32; where its file is of another precision, in that, as it was proved to be made."""
    precision = REFERENCE if spec.precision in AS_IS else spec.precision
    chosen, provider = runtime.default(precision)
    return Backbone.load(folder, replace(spec, precision=precision), Plan(runtime=chosen, provider=provider))


def _fidelity(row: Row, arrays: Sequence[NDArray[Any]], reference: Embedding) -> Fidelity | str:
    """Return the fidelity of a candidate's runtime, or why there is none."""
    plan = replace(row.candidate.plan, workers=1, threads=cores())
    try:
        return measure_fidelity(Backbone.load(row.folder, read_spec(row.folder), plan), arrays, reference)
    except BackboneError as error:
        return str(error)


def _heats(
    rows: list[Row], measure: Callable[[Row, float], None], goal: Goal, seconds: float, progress: Progress
) -> list[Row]:
    """Measure heat after heat, each in interleaved rounds, the better half going on; return who was in the last."""
    running = [row for row in rows if not row.refused]
    end, done, opening_s = time.monotonic() + seconds, 0, OPENING_S
    for heat, rounds in enumerate(ROUNDS):
        begun, n = time.monotonic(), done
        to_come = max(1, sum(count * -(-len(running) // 2**i) for i, count in enumerate(ROUNDS[heat:])))
        slice_s = min(max((end - begun) / to_come - opening_s, MIN_SLICE_S), MAX_SLICE_S)
        for i, row in product(range(rounds), running):
            if i and time.monotonic() > end:
                break
            progress(done / (n + to_come), _words(row.candidate))
            measure(row, slice_s)
            done += 1
        opening_s = (time.monotonic() - begun) / max(1, done - n) - slice_s
        running = [row for row in running if not row.refused]
        if heat + 1 == len(ROUNDS) or time.monotonic() > end:
            break
        running = _better_half(running, goal)
    progress(1.0, "done")
    return running


def _measure(row: Row, items: Sequence[bytes], goal: Goal, *, seconds: float) -> None:
    """Add a round to a row, through the whole path: decode, preprocess, batch, forward."""
    try:
        with Extractor.load(row.folder, plan=row.candidate.plan, cache="off") as extractor:
            row.rounds.append(measure_speed(extractor, items, callers=goal.callers, seconds=seconds))
    except (BackboneError, InferenceFailed) as error:
        row.refused = str(error)


def _words(candidate: Candidate) -> str:
    plan = candidate.plan
    return f"{plan.runtime} {plan.provider} {candidate.precision}, {plan.workers} × {plan.threads}"


def _better_half(rows: list[Row], goal: Goal) -> list[Row]:
    """Return the better half of each precision, those within the p99 first; their order stays."""
    kept: list[Row] = []
    for precision in {row.candidate.precision for row in rows}:
        own = [row for row in rows if row.candidate.precision == precision]
        own.sort(key=lambda row: (_in_time(row, goal), row.items_per_s), reverse=True)
        kept += own[: -(-len(own) // 2)]
    return [row for row in rows if row in kept]


def _best(rows: list[Row], precision: str, goal: Goal) -> Row | None:
    """Return the first that is as fast as the fastest, but for noise: the candidates stand with the plainest first."""
    fitting = [row for row in rows if row.candidate.precision == precision and _in_time(row, goal)]
    fastest = max((row.items_per_s for row in fitting), default=0.0)
    return next((row for row in fitting if row.items_per_s >= (1 - TIE) * fastest), None)


def _in_time(row: Row, goal: Goal) -> bool:
    return row.speed is not None and (goal.p99_ms is None or row.speed.p99_ms <= goal.p99_ms)


def _nothing_fits(rows: list[Row], precision: str, goal: Goal) -> str:
    own = [row for row in rows if row.candidate.precision == precision]
    latencies = [row.speed.p99_ms for row in own if row.speed and not row.refused]
    if latencies:
        return (
            f"no plan in {precision} has a p99 of {goal.p99_ms:g} ms with {goal.callers} callers, the least is "
            f"{min(latencies):.0f} ms; name a longer one with --p99-ms, or fewer callers with --callers"
        )
    reasons = ", ".join(dict.fromkeys(row.refused for row in own))
    return f"no plan in {precision} can be offered: {reasons or 'no runtime here has it'}"
