"""The errors of `extractor`: one tree; every message names the value, the limit and the next step.

ExtractorError
├── ItemError              one item's own fault: its neighbours are answered
│   ├── EmptyItem
│   ├── UnreadableItem     its file cannot be read
│   ├── ItemTooLarge       more bytes or pixels than the limit
│   └── UndecodableItem    not what the backbone reads: a broken image, invalid UTF-8
├── BackboneError          the backbone cannot be served
│   ├── BackboneNotFound
│   ├── BackboneNotNamed   a request names none where several are served
│   ├── BackboneInvalid    a malformed spec, a file that does not match its hash, a failed proof
│   ├── BackboneServed     a backbone of that name is served already
│   ├── BackboneBusy       it is being loaded, unloaded or replaced
│   ├── BackboneChanged    its fingerprint is not the one that came before
│   ├── ProviderUnavailable
│   └── RuntimeMissing     a package that is needed is not installed
├── CacheInvalid           a setting that names no cache, or a store that cannot be read
├── ExportError            a network could not be turned into a backbone folder
├── TuneError              no plan meets what was asked for
│   └── PlanNotStored      the backbone's folder cannot be written
├── SourceInvalid          a source of items is not there, or not understood
├── DumpError              embeddings cannot be dumped
│   ├── DumpRefused        what is in OUT is of another backbone or source, or another dump is at work there
│   ├── DumpNotWritten     a shard or the manifest cannot be written: a full disk, say
│   ├── DumpSpoilt         what is in OUT is not what was written
│   └── EngineFailed       the Ray cluster that a dump runs on is not there, or cannot go on
├── InferenceFailed        the session failed on this item, or gave NaN or infinity
├── RequestInvalid         a request says what cannot be
├── RequestTooLarge        more items or bytes in one request than the limit
├── QueueFull              the queue is at its bound: try again later
│   └── DeadlineTooShort   with what waits, it could not be computed in time
├── DeadlinePassed         its callers stopped waiting before its turn came
├── NotServing             the session hangs
├── Cancelled              the caller left
└── Closed                 the extractor is stopping or has stopped
"""


class ExtractorError(Exception):
    """Root of every error that `extractor` raises on purpose."""


class ItemError(ExtractorError):
    """One item cannot be embedded; the others can."""


class EmptyItem(ItemError):
    """The item has no bytes, or a text has no characters but white space."""


class UnreadableItem(ItemError):
    """The item's file cannot be read."""


class ItemTooLarge(ItemError):
    """The item has more bytes or pixels than the limit."""


class UndecodableItem(ItemError):
    """The bytes are not what the backbone's modality reads."""


class BackboneError(ExtractorError):
    """A backbone cannot be served."""


class BackboneNotFound(BackboneError):
    """No backbone of that name."""


class BackboneNotNamed(BackboneError):
    """A request names no backbone where several are served."""


class BackboneInvalid(BackboneError):
    """A backbone folder is malformed, altered, too new, or fails its golden inputs."""


class BackboneServed(BackboneError):
    """A backbone of that name is served already."""


class BackboneBusy(BackboneError):
    """The backbone is being loaded, unloaded or replaced."""


class BackboneChanged(BackboneError):
    """Two embeddings that were to meet have different fingerprints."""


class ProviderUnavailable(BackboneError):
    """The execution provider that was asked for did not load."""


class RuntimeMissing(BackboneError):
    """A package that this step needs is not installed."""


class CacheInvalid(ExtractorError):
    """A setting names no cache, its bound is out of range, or the store there has a newer format."""


class ExportError(ExtractorError):
    """A network could not be turned into a backbone folder."""


class TuneError(ExtractorError):
    """No plan meets what was asked for."""


class PlanNotStored(TuneError):
    """The chosen plan cannot be kept beside the backbone."""


class SourceInvalid(ExtractorError):
    """A source of items is not there, cannot be read, or is not understood."""


class DumpError(ExtractorError):
    """Embeddings cannot be dumped."""


class DumpRefused(DumpError):
    """What is in the folder of a dump is of another backbone, precision or source, or another dump is at work there."""


class DumpNotWritten(DumpError):
    """A shard or the manifest of a dump cannot be written; what was committed before stays."""


class DumpSpoilt(DumpError):
    """A file of a dump is missing, or is not what was written."""


class EngineFailed(DumpError):
    """The Ray cluster that a dump runs on does not answer, or cannot go on; what was committed before stays."""


class InferenceFailed(ExtractorError):
    """The session failed on this item, or gave a value that is not finite."""


class RequestInvalid(ExtractorError):
    """A request says what cannot be: a path for a name, an id twice, a level that there is not."""


class RequestTooLarge(ExtractorError):
    """One request has more items or bytes than the limit."""


class QueueFull(ExtractorError):
    """The backbone's queue is at its bound.

    Parameters
    ----------
    message : str
    retry_after_ms : int, optional
        When there should be room, by the queue and by how fast it was worked off lately.
    """

    def __init__(self, message: str, retry_after_ms: int | None = None) -> None:
        super().__init__(message)
        self.retry_after_ms = retry_after_ms


class DeadlineTooShort(QueueFull):
    """With what waits before it, the request could not be computed before its deadline."""


class DeadlinePassed(ExtractorError):
    """The callers of this item stopped waiting before its turn came."""


class NotServing(ExtractorError):
    """The backbone's session does not return from its forwards."""


class Cancelled(ExtractorError):
    """Every caller that asked for this item has left."""


class Closed(ExtractorError):
    """The extractor is stopping or has stopped."""
