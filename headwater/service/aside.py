"""A function that may hang -> a future: run in a thread of its own, which keeps neither the pool nor the process."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from threading import Thread
from typing import Any, TypeVar

T = TypeVar("T")


def aside(function: Callable[..., T], *arguments: Any) -> "asyncio.Future[T]":
    """Call a function in a daemon thread.

    `asyncio.to_thread` would not do: a call that hangs there takes a thread from everyone's pool, and the process
    waits for it at the end.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(setter: Callable[[Any], None], value: Any) -> None:
        if not future.done():
            setter(value)

    def run() -> None:
        settled: tuple[Callable[[Any], None], Any]
        try:
            settled = future.set_result, function(*arguments)
        except BaseException as error:  # as the one who waits will see it
            settled = future.set_exception, error
        with suppress(RuntimeError):  # the loop has ended, and nobody waits
            loop.call_soon_threadsafe(settle, *settled)

    Thread(target=run, name=f"aside-{getattr(function, '__name__', 'call')}", daemon=True).start()
    return future
