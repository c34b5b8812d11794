"""Changes that callers ask for -> changes of a task, and what became of each example. For any thread."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from classifiers.errors import VersionConflict
from extractor.cache import item_key
from extractor.errors import InferenceFailed, ItemError, RequestInvalid
from extractor.outcome import Outcome
from extractor.stages import StageTimes
from headwater.heads import item_status
from headwater.service.answers import rows_of
from headwater.service.taught import to_settings
from headwater.v1 import extractor_pb2
from headwater.v1 import fewshot_pb2 as pb

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from classifiers.tasks import Task
    from classifiers.tasks.facts import Limits


def check(examples: pb.NewExamples, n: int, limits: "Limits") -> None:
    """Find fault with what is known of n new examples before they are embedded.

    Raises
    ------
    RequestInvalid, LimitExceeded, InvalidOption
    """
    from classifiers.tasks.facts import check_text

    if len(examples.labels) != n:
        raise RequestInvalid(f"there are {n:,} examples and {len(examples.labels):,} labels; give one to each")
    for what in ("ids", "notes"):
        if len(values := getattr(examples, what)) not in (0, n):
            raise RequestInvalid(f"there are {n:,} examples and {len(values):,} {what}; give one to each, or none")
    for label in set(examples.labels):
        check_text("label", label, limits.max_label_bytes)
    for one in examples.ids:
        check_text("id", one, limits.max_id_bytes)
    for note in filter(None, examples.notes):
        check_text("note", note, limits.max_note_bytes)


def check_outcomes(outcomes: Sequence[Outcome]) -> None:
    """Raise the error of an item that is not the item's fault: the backbone hangs, or the caller's time is over."""
    for outcome in outcomes:
        if outcome.error is not None and not isinstance(outcome.error, ItemError | InferenceFailed):
            raise outcome.error


def add_items(
    task: "Task", request: pb.AddExamplesRequest, outcomes: Sequence[Outcome], times: StageTimes
) -> pb.AddExamplesResponse:
    """Add the items that were embedded, and tell why others were not; raises also what `check_outcomes` does."""
    check_outcomes(outcomes)
    examples = request.examples
    good = [i for i, one in enumerate(outcomes) if one.error is None]
    contents = [examples.items[i].data for i in good]
    keys = [item_key(task.facts.fingerprint, content) for content in contents]
    X = rows_of(outcomes, task.facts.dim)
    version, ids, n_new = _add(task, request, X, good, keys, contents if task.facts.keep_items else None)
    named = iter(ids)
    return pb.AddExamplesResponse(
        version=version,
        examples=[_added(one, named) for one in outcomes],
        n_new=n_new,
        times=extractor_pb2.StageTimes(**vars(times)),
    )


def add_embeddings(task: "Task", request: pb.AddExamplesRequest, X: "ArrayLike", n: int) -> pb.AddExamplesResponse:
    """Add n embeddings."""
    version, ids, n_new = _add(task, request, X, range(n), None, None)
    return pb.AddExamplesResponse(
        version=version,
        examples=[pb.AddedExample(id=one) for one in ids],
        n_new=n_new,
        times=extractor_pb2.StageTimes(),
    )


def _add(
    task: "Task",
    request: pb.AddExamplesRequest,
    X: "ArrayLike",
    good: Sequence[int],
    item_keys: Sequence[bytes] | None,
    items: Sequence[bytes] | None,
) -> tuple[int, Sequence[str], int]:
    examples = request.examples
    added = task.add(
        X,
        [examples.labels[i] for i in good],
        fingerprint=task.facts.fingerprint,
        ids=[examples.ids[i] for i in good] if examples.ids else None,
        notes=[examples.notes[i] or None for i in good] if examples.notes else None,
        item_keys=item_keys,
        items=items,
        if_version=if_version(request),
    )
    return added.version, added.ids, added.n_new


def _added(outcome: Outcome, named: Iterator[str]) -> pb.AddedExample:
    if outcome.error is not None:
        return pb.AddedExample(error=item_status(outcome.error))
    return pb.AddedExample(id=next(named), cached=outcome.cached, truncated=outcome.truncated)


def update(task: "Task", request: pb.UpdateTaskRequest) -> None:
    """Change a task's settings; what a request leaves out stays, whoever else changes it at the same time.

    Raises
    ------
    InvalidOption, LimitExceeded, VersionConflict, TaskUnwritable
    """
    wanted = if_version(request)
    while True:
        version = task.version
        settings = to_settings(request.settings, task.settings)
        try:
            task.update(settings, if_version=version if wanted is None else wanted)
        except VersionConflict:
            if wanted is not None:
                raise
        else:
            return


def if_version(request: object) -> int | None:
    """Return the version that a change is meant for, or None for any."""
    given: int = request.if_version  # type: ignore[attr-defined]
    return given if request.HasField("if_version") else None  # type: ignore[attr-defined]
