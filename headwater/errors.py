"""The errors of `headwater` itself.

HeadwaterError
├── ServiceError       a call failed for a reason that no error of `extractor` names
├── ClientClosed       a client was used after it was closed
├── OutputNotWritable  a command's result cannot be kept where it was told to
└── ServerNotStarted   the port is taken, or there is nothing to serve
"""

import grpc


class HeadwaterError(Exception):
    """Root of every error that `headwater` itself raises on purpose."""


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


class OutputNotWritable(HeadwaterError):
    """A command's result cannot be kept where it was told to."""


class ServerNotStarted(HeadwaterError):
    """The server could not begin to serve."""
