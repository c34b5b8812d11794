"""Where the time of a request and of a batch went; plain numbers, for replies and metrics."""

from dataclasses import dataclass


@dataclass
class StageTimes:
    """Where one request's time went.

    Parameters
    ----------
    queue_ms : float
        The longest that one of its items waited for its turn.
    decode_ms : float
        Decoding and preprocessing, summed over its items.
    inference_ms : float
        Its items' shares of the forwards they were in, summed.
    cache_ms : float
        Looking up the cache.
    """

    queue_ms: float = 0.0
    decode_ms: float = 0.0
    inference_ms: float = 0.0
    cache_ms: float = 0.0

    def add(self, other: "StageTimes") -> None:
        """Take in the times of more items."""
        self.queue_ms = max(self.queue_ms, other.queue_ms)
        self.decode_ms += other.decode_ms
        self.inference_ms += other.inference_ms
        self.cache_ms += other.cache_ms


@dataclass(frozen=True)
class BatchFacts:
    """One forward: how many items, what they cost, and with padding.

    Parameters
    ----------
    n_items : int
    cost : int
        Items, or where they vary in length tokens, samples or values.
    padded_cost : int
        The same with what was padded.
    inference_s : float
    """

    n_items: int
    cost: int
    padded_cost: int
    inference_s: float
