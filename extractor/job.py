"""One item on its way through a backbone, and the future that its callers wait for."""

import math
import time
from concurrent.futures import Future
from dataclasses import dataclass, field

from extractor.caller import ANYONE, Caller
from extractor.outcome import Embedded


@dataclass(eq=False)
class Job:
    """One item on its way.

    Parameters
    ----------
    item : bytes
        Let go of once it is prepared.
    caller : Caller
        In whose line it stands.
    cost : float
        What it should take, guessed before it is decoded; 1 is an ordinary item.
    deadline : float
        When the last of its callers stops waiting, on the clock of `time.monotonic`; infinite for never.
    future : Future of Embedded
    queued_at : float
        When it came, on the same clock.
    queue_s, decode_s, inference_s : float
        Where its time went: waiting, being prepared, and its share of a forward.
    """

    item: bytes
    caller: Caller = ANYONE
    cost: float = 1.0
    deadline: float = math.inf
    future: "Future[Embedded]" = field(default_factory=Future)
    queued_at: float = field(default_factory=time.monotonic)
    queue_s: float = 0.0
    decode_s: float = 0.0
    inference_s: float = 0.0
