"""The errors of `headwater` itself.

HeadwaterError
├── CallRefused             the door of a server did not let a call in
│   ├── Unauthenticated     no key, or none that is good here
│   ├── PermissionDenied    the key is good, and lacks the role
│   ├── TooManyCalls        as many calls run at once as may
│   └── RateExceeded        more items a second than the key may
├── ServiceError            a call failed for a reason that no other error names
├── ClientClosed            a client was used after it was closed
├── DataInvalid             what was labelled cannot be read
├── HeadNotExported         a head cannot be written as ONNX, or its graph does not compute the same
├── HeadError               a head, or a job that makes one, cannot be had
│   ├── HeadNotFound        no head has this name
│   ├── HeadInUse           an alias stands for the version that was to be deleted
│   ├── HeadsNotWritable    a head cannot be kept
│   ├── DumpInvalid         a dump is not there, not allowed, or not understood
│   ├── JobNotFound         no job of this caller has this id
│   ├── JobCancelled        someone, or the server's end, cancelled the job
│   ├── JobFailed           the job's process ended without a head
│   └── JobsFull            as many jobs are open as may be
├── CredentialsInvalid      a client's key, certificate or authority cannot be used
├── KeyFileInvalid          a file of keys is not there, or is not understood
├── KeyNotFound             no key has this name or id
├── KeyNotMade              a key cannot be as it was asked for
├── MetricsUnreachable      no server shows its metrics there
├── OutputNotWritable       a command's result cannot be kept where it was told to
└── ServerNotStarted        the port is taken, or there is nothing to serve
"""

from typing import Self

import grpc


class HeadwaterError(Exception):
    """Root of every error that `headwater` itself raises on purpose."""


class CallRefused(HeadwaterError):
    """The door of a server did not let a call in.

    Parameters
    ----------
    message : str
    retry_after_ms : int, optional
        When to try again: milliseconds from now, or -1 for never.
    """

    def __init__(self, message: str, retry_after_ms: int | None = None) -> None:
        super().__init__(message)
        self.retry_after_ms = retry_after_ms


class Unauthenticated(CallRefused):
    """The call brings no key, or none that is good here."""


class PermissionDenied(CallRefused):
    """The key is good, and lacks the role that the method needs."""


class TooManyCalls(CallRefused):
    """As many calls run at once as the key, or the server, may have."""


class RateExceeded(CallRefused):
    """The key has used up its items for now, or asks for more at once than it may ever have."""


class ServiceError(HeadwaterError):
    """A call to a server failed.

    Parameters
    ----------
    code : grpc.StatusCode
    message : str
    """

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(f"{code.name}: {message}")
        self.code = code
        self.message = message


class ClientClosed(HeadwaterError):
    """A client was used after it was closed."""


class DataInvalid(HeadwaterError):
    """What was labelled is not there, or a line of it cannot be understood."""


class HeadNotExported(HeadwaterError):
    """A head cannot be written as ONNX, or what was written does not compute the same."""


class HeadError(HeadwaterError):
    """A head, or a job that makes one, cannot be had."""


class HeadNotFound(HeadError):
    """No head has this name, or none may have it."""


class HeadInUse(HeadError):
    """An alias stands for the version that was to be deleted."""


class HeadsNotWritable(HeadError):
    """The folder of heads cannot be written: its rights, or a full disk."""


class DumpInvalid(HeadError):
    """A dump is not below the folder that the operator allows, or is none."""


class JobNotFound(HeadError):
    """No job has this id, or it is someone else's."""


class JobCancelled(HeadError):
    """The job was cancelled: by a call, or because the server stops."""


class JobFailed(HeadError):
    """The job's process ended without a head, and not by an error that has a class of its own."""


class JobsFull(HeadError):
    """As many jobs are open as the caller, or the server, may have.

    Parameters
    ----------
    message : str
    retry_after_ms : int, optional
    """

    def __init__(self, message: str, retry_after_ms: int | None = None) -> None:
        super().__init__(message)
        self.retry_after_ms = retry_after_ms


class CredentialsInvalid(HeadwaterError):
    """A client's key, certificate or authority cannot be used."""


class KeyFileInvalid(HeadwaterError):
    """A file of keys is not there, or is not understood."""


class KeyNotFound(HeadwaterError):
    """No key has this name or id."""


class KeyNotMade(HeadwaterError):
    """A key cannot be as it was asked for."""


class MetricsUnreachable(HeadwaterError):
    """No server shows its metrics at an address."""


class OutputNotWritable(HeadwaterError):
    """A command's result cannot be kept where it was told to."""

    @classmethod
    def by(cls, error: OSError, place: object) -> Self:
        """Name the file that could not be written, or, where the error names none, the place."""
        return cls(f"cannot write {error.filename or place}: {error.strerror or error}; make it writable, or make room")


class ServerNotStarted(HeadwaterError):
    """The server could not begin to serve."""
