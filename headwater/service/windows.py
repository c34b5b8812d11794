"""Many items and an extractor -> their outcomes, a window at a time, so that they take turns with everybody's."""

import asyncio
from collections import deque
from collections.abc import Sequence

from extractor.errors import DeadlineTooShort, QueueFull, RequestTooLarge
from extractor.outcome import Outcome
from extractor.pipeline import Extractor
from headwater.service.calls import Call
from headwater.service.extractor import extract
from headwater.service.sight import Sight

WINDOW = 32  # items that wait for the backbone at once
FULL_QUEUE_S = 0.02  # to wait where a full queue does not say how long


async def in_windows(extractor: Extractor, items: Sequence[bytes], call: Call, sight: Sight) -> list[Outcome]:
    """Embed items in their order; a full queue is waited for, a window that it can never hold is halved."""
    size = max(1, min(WINDOW, extractor.limits.max_queue_size // 4))
    waiting = deque(list(items[i : i + size]) for i in range(0, len(items), size))
    found: list[Outcome] = []
    while waiting:
        window = waiting.popleft()
        try:
            outcomes, times = await extract(extractor, window, call)
        except DeadlineTooShort:
            raise
        except QueueFull as full:
            waiting.appendleft(window)
            await asyncio.sleep(max(FULL_QUEUE_S, (full.retry_after_ms or 0) / 1000))
        except RequestTooLarge:
            if len(window) == 1:
                raise
            waiting.extendleft((window[len(window) // 2 :], window[: len(window) // 2]))
        else:
            sight.extracted(call, extractor.spec.name, outcomes, times)
            found.extend(outcomes)
    return found
