"""How fast work goes lately: costs and seconds of batches -> the seconds that more will take."""

SMOOTHING = 0.1  # weight of the newest batch
MOST_SLOWER = 4.0  # a batch counts as at most so many times slower than the former: one hiccup is no new speed


class Speed:
    """A smoothed speed of one worker. Not for several threads at once: its owner holds a lock."""

    def __init__(self) -> None:
        self._first: float | None = None
        self._s_per_cost = 0.0  # 0 before the second batch: the first alone may be a hiccup

    def measure(self, cost: float, seconds: float) -> None:
        """Take in a batch."""
        newest = seconds / cost
        if self._s_per_cost == 0:
            self._s_per_cost = 0.0 if self._first is None else min(self._first, newest)
            self._first = newest
            return
        newest = min(newest, MOST_SLOWER * self._s_per_cost)
        self._s_per_cost += SMOOTHING * (newest - self._s_per_cost)

    def seconds_for(self, cost: float, workers: int) -> float:
        """Return what so many workers take for work of so much cost; 0 before the second batch."""
        return cost * self._s_per_cost / workers
