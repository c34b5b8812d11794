"""What a caller has in hand -> what is sent for it, within a server's limits, or its own error."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable

from extractor.errors import ItemError
from extractor.items import Item, as_bytes, check_several
from extractor.outcome import Outcome
from headwater.convert import BackboneInfo

MAX_BYTES = 4 << 20  # of items in one message; a larger item travels alone
ENVELOPE_BYTES = 64 << 10  # for what a message holds beside its items' bytes

Content = bytes | Outcome


def content_of(item: Item, info: BackboneInfo) -> Content:
    """Return an item's bytes, or the outcome of one that cannot be sent; reads files."""
    try:
        return as_bytes(item, max_bytes=min(info.limits.max_item_bytes, _largest(info)))
    except ItemError as error:
        return Outcome(error=error)


async def contents_of(items: Iterable[Item] | AsyncIterable[Item], info: BackboneInfo) -> AsyncIterator[Content]:
    """Yield what is to be sent for each item; what takes files or encoding is done in a thread."""
    async for item in items if isinstance(items, AsyncIterable) else _each(items):
        if isinstance(item, bytes | str):
            yield content_of(item, info)
        else:
            yield await asyncio.to_thread(content_of, item, info)


async def _each(items: Iterable[Item]) -> AsyncIterator[Item]:
    for item in check_several(items):
        yield item


def max_bytes(info: BackboneInfo) -> int:
    """Return how many bytes of items one message should carry."""
    return min(MAX_BYTES, _largest(info))


def _largest(info: BackboneInfo) -> int:
    return info.request_limits.max_message_bytes - ENVELOPE_BYTES
