"""A token bucket: how many items are asked for, and when -> how long to wait for them."""


class Bucket:
    """Tokens that run in at a steady rate up to a size; rate and size may differ from one call to the next.

    It is full at first. Times are in seconds, on any clock that does not go back.
    """

    def __init__(self) -> None:
        self._tokens = float("inf")
        self._at = 0.0

    def take(self, n: int, *, rate: float, size: float, now: float) -> float:
        """Take `n` tokens, at most `size`, and return 0; or take none, and return the seconds until `n` are there."""
        self._tokens = min(size, self._tokens + (now - self._at) * rate)
        self._at = now
        if n > self._tokens:
            return (n - self._tokens) / rate
        self._tokens -= n
        return 0.0
