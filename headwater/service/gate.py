"""The gate: calls that bring no good key -> refused before their message is read, so that they cost no memory.

gRPC reads the one message of a unary call before the call's handler runs: up to `max_message_bytes` of memory for
whoever sends them. A handler of a stream reads none until it asks for one; so a call without a good key gets such a
handler, and in it the door's own refusal.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc
import grpc.aio

from headwater.errors import Unauthenticated
from headwater.keyring import KeyRing
from headwater.service.calls import Calls, Context
from headwater.service.door import sent_key

if TYPE_CHECKING:
    Handler: TypeAlias = grpc.RpcMethodHandler[Any, Any]  # generic in its stubs alone

# Balancers ask for these, and have no key.
OPEN_SERVICES = (
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
)


class Gate(grpc.aio.ServerInterceptor):
    """Looks at the key of each call as it arrives. Not for a server whose callers may show a certificate instead.

    Parameters
    ----------
    ring : KeyRing
    calls : Calls
    """

    def __init__(self, ring: KeyRing, calls: Calls) -> None:
        self._ring = ring
        self._calls = calls

    async def intercept_service(
        self,
        continuation: "Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]]",
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "Handler | None":
        """Return the handler of a call, or one that refuses it."""
        service, _, method = handler_call_details.method.strip("/").rpartition("/")
        if service in OPEN_SERVICES or self._is_good(sent_key(handler_call_details.invocation_metadata)):
            return await continuation(handler_call_details)
        return self._refusal(method)

    def _is_good(self, key: str | None) -> bool:
        try:
            return key is not None and self._ring.find(key) is not None
        except Unauthenticated:
            return False

    def _refusal(self, method: str) -> "Handler":
        async def refuse(messages: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
            async with self._calls.accept(context, method):
                raise Unauthenticated("the key was not good when the call came; call again")
            yield b""  # never: it makes this the handler of a stream

        return grpc.stream_stream_rpc_method_handler(refuse)
