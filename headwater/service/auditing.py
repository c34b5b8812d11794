"""A task -> what in it deserves a look, as a message. For a thread of its own."""

from dataclasses import asdict
from typing import TYPE_CHECKING

from headwater.v1 import fewshot_pb2 as pb

if TYPE_CHECKING:
    from classifiers.tasks import Task

FINDINGS, MAX_FINDINGS = 100, 1000


def audited(task: "Task", n: int) -> pb.AuditResponse:
    """Return the first n findings of each kind, and how many there are."""
    from classifiers.audit import audit

    support = task.support
    found = audit(support.X, support.y, support.ids.tolist(), classes=list(support.labels.values()), n=n)
    counted = {"n_contradictions", "n_duplicates", "n_overlaps", "n_small_classes"}
    return pb.AuditResponse(
        version=support.version,
        accuracy=pb.AuditedAccuracy(**asdict(found.accuracy)) if found.accuracy is not None else None,
        contradictions=[pb.Contradiction(**asdict(one)) for one in found.contradictions],
        duplicates=[pb.NearDuplicates(**asdict(one)) for one in found.duplicates],
        overlaps=[pb.Overlap(**asdict(one)) for one in found.overlaps],
        small_classes=[pb.TaskClass(**asdict(one)) for one in found.small_classes],
        **{name: getattr(found, name) for name in counted},
    )
