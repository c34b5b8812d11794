"""A service's handlers -> the same, by which bytes that are no message are the caller's fault: INVALID_ARGUMENT.

gRPC itself answers them INTERNAL, which says that the server is broken. Works for any service, also other people's.
"""

import inspect
from collections.abc import AsyncIterator, Callable
from typing import Any, NoReturn

import grpc.aio

Context = grpc.aio.ServicerContext[Any, Any]

_KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


class Registry:
    """Stands in for a server where a service registers its handlers: `add_…Servicer_to_server(servicer, Registry(s))`.

    Parameters
    ----------
    server : grpc.aio.Server
    """

    def __init__(self, server: grpc.aio.Server) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, handlers: "tuple[grpc.GenericRpcHandler, ...]") -> None:
        """Register handlers, made lenient."""
        self._server.add_generic_rpc_handlers(tuple(map(_Lenient, handlers)))

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Any]) -> None:
        """Nothing more: generated code registers the same methods twice, and `grpc.aio` needs the generic ones."""


class _Lenient(grpc.GenericRpcHandler):
    def __init__(self, inner: grpc.GenericRpcHandler) -> None:
        self._inner = inner
        self._known: dict[str, Any] = {}  # only methods that exist, so it is bounded

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        method = handler_call_details.method
        if method not in self._known:
            handler = self._inner.service(handler_call_details)
            if handler is None:
                return None
            self._known[method] = _lenient(handler)
        return self._known[method]


class _Malformed:
    """Stands where a message should be."""


def _lenient(handler: Any) -> Any:
    kind = next(kind for kind in _KINDS if getattr(handler, kind) is not None)
    behaviour = getattr(handler, kind)
    check = _stream_checked if handler.request_streaming else _unary_checked
    return handler._replace(request_deserializer=_tolerant(handler.request_deserializer), **{kind: check(behaviour)})


def _tolerant(parse: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def parse_or_mark(data: bytes) -> Any:
        try:
            return parse(data)
        except Exception:  # protobuf's DecodeError, and whatever another parser raises
            return _Malformed()

    return parse_or_mark


# grpc.aio tells coroutines from asynchronous generators, so each kind stays what it was.


def _unary_checked(behaviour: Callable[..., Any]) -> Callable[..., Any]:
    if inspect.isasyncgenfunction(behaviour):

        async def stream(request: Any, context: Context) -> AsyncIterator[Any]:
            await _check(request, context)
            async for response in behaviour(request, context):
                yield response

        return stream

    async def answer(request: Any, context: Context) -> Any:
        await _check(request, context)
        return await behaviour(request, context)

    return answer


def _stream_checked(behaviour: Callable[..., Any]) -> Callable[..., Any]:
    if inspect.isasyncgenfunction(behaviour):

        async def stream(requests: AsyncIterator[Any], context: Context) -> AsyncIterator[Any]:
            async for response in behaviour(_each_checked(requests, context), context):
                yield response

        return stream

    async def answer(requests: AsyncIterator[Any], context: Context) -> Any:
        return await behaviour(_each_checked(requests, context), context)

    return answer


async def _each_checked(requests: AsyncIterator[Any], context: Context) -> AsyncIterator[Any]:
    async for request in requests:
        await _check(request, context)
        yield request


async def _check(request: Any, context: Context) -> None:
    if isinstance(request, _Malformed):
        await _refuse(context)


async def _refuse(context: Context) -> NoReturn:
    await context.abort(
        grpc.StatusCode.INVALID_ARGUMENT,
        "the bytes are no message of this method; send what the .proto file says, encoded by protobuf",
    )
