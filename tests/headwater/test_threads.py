"""The driver of streams in threads: what no server can bring about at will."""

import threading
from itertools import count
from typing import Any

from headwater.exchange import Extraction
from headwater.flow import Flow
from headwater.threads import ThreadedFlow
from tests.headwater.test_exchange import INFO

WAIT_S = 20


class EndsJustBefore(threading.Event):
    """Room for items, taken away by the reader just as the caller leaves: before `clear`, and after the look before."""

    def __init__(self, flow: ThreadedFlow) -> None:
        super().__init__()
        self._of = flow

    def clear(self) -> None:
        self._of._over = True
        self.set()
        super().clear()


def test_the_reader_ends_when_the_caller_leaves_at_any_moment() -> None:
    driver: Any = ThreadedFlow(Flow(Extraction(INFO), timeout_s=1.0), open_stream=iter, failure=lambda error: None)
    while driver._flow.has_room:
        driver._flow.count(b"x")
    driver._room = EndsJustBefore(driver)
    reader = threading.Thread(target=driver._read, args=(count(),), daemon=True)
    reader.start()
    reader.join(WAIT_S)
    assert not reader.is_alive()
