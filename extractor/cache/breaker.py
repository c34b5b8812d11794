"""A circuit breaker: the first failure stops all calls to what is far away, until a probe in the background succeeds.

Nygard, "Release It!", 2007. Callers pay one time-out each at most, and only those who were waiting already; nobody pays
for finding out that it works again. It begins open, with a probe on its way, so that opening waits for nothing and no
caller is the one who looks up a host's name.
"""

import math
import threading
import time
from collections.abc import Callable
from typing import Self

MIN_PAUSE_S = 0.25  # before the first probe after a failure; doubled with each further one
MAX_PAUSE_S = 5.0
STOP_S = 1.0  # for a probe in hand; one that hangs ends with the process


class Breaker:
    """Tells whether something far away is worth a call.

    Parameters
    ----------
    name : str
        Of what is far away, for the reason.
    probe : callable
        Asks it something small, and raises where it fails; called in a thread of the breaker's own.
    patience_s : float
        How long after the start callers may wait for what the first probe says.

    Attributes
    ----------
    reason : str or None
        Why no call is worth it; None while calls are.
    """

    def __init__(self, name: str, probe: Callable[[], object], *, patience_s: float) -> None:
        self.name = name
        self.reason: str | None = f"{name} has not answered yet"
        self._probe = probe
        self._patience_s = patience_s
        self._patient_until = -math.inf
        self._pause_s = MIN_PAUSE_S
        self._closed_at = -math.inf  # as a circuit is closed: current flows
        self._stopping = False
        self._probed = threading.Event()  # once
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._watch, name="cache-probe", daemon=True)

    def start(self) -> Self:
        """Begin the first probe, in the background."""
        self._patient_until = time.monotonic() + self._patience_s
        self._thread.start()
        return self

    def lets_through(self) -> bool:
        """Tell whether a call is worth it; waits for the first probe, no longer than the patience."""
        if self.reason is not None and not self._probed.is_set():
            self._probed.wait(self._patient_until - time.monotonic())
        return self.reason is None

    def trip(self, error: Exception) -> None:
        """Stop all calls, for one has failed."""
        with self._changed:
            if self.reason is None:
                if time.monotonic() - self._closed_at > MAX_PAUSE_S:  # else it is the same trouble still
                    self._pause_s = MIN_PAUSE_S
                self.reason = self._said(error)
                self._changed.notify_all()

    def stop(self) -> None:
        """Stop all calls for good, and end the thread."""
        with self._changed:
            self._stopping = True
            self.reason = f"{self.name} is not asked any more"
            self._changed.notify_all()
        self._probed.set()
        self._thread.join(STOP_S)

    def _watch(self) -> None:
        self._try()
        while self._await_turn():
            self._try()

    def _await_turn(self) -> bool:
        """Wait for a failure, and then the pause; False once it is to stop."""
        with self._changed:
            self._changed.wait_for(lambda: self.reason is not None)
            self._changed.wait_for(lambda: self._stopping, self._pause_s)
            self._pause_s = min(2 * self._pause_s, MAX_PAUSE_S)
            return not self._stopping

    def _try(self) -> None:
        try:
            self._probe()
        except Exception as error:
            reason: str | None = self._said(error)
        else:
            reason = None
        with self._changed:
            if not self._stopping:
                self.reason = reason
                self._closed_at = time.monotonic()
        self._probed.set()

    def _said(self, error: Exception) -> str:
        return f"{self.name} fails: {str(error) or type(error).__name__}"
