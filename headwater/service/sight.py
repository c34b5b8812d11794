"""What shows of a server: its calls -> metrics, log lines and traces.

A server that answers thousands of calls a second must not write a line for each. At level `debug` every call has one.
At `info` only those that failed and those that took SLOW_S have, at most LINES_PER_S of them a second, and the next
line says how many were left out; a call that failed through the server's own fault always has one, as a warning.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import grpc

from extractor.outcome import Outcome
from extractor.pipeline import Extractor
from extractor.stages import StageTimes
from headwater import logs
from headwater.errors import ServerNotStarted
from headwater.service.gauges import Gauges
from headwater.service.metrics import Metrics
from headwater.service.metrics_port import metrics_port

if TYPE_CHECKING:
    from headwater.service.calls import Call
    from headwater.service.traces import Traces

log = logging.getLogger(__name__)

SLOW_S = 1.0
LINES_PER_S = 10
MESSAGE_LENGTH = 300  # of an error in a log line: a message may quote what a caller sent
_OUR_FAULT = (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS)


@dataclass(frozen=True, kw_only=True)
class SightSettings:
    """What a server shows, and where.

    Parameters
    ----------
    metrics_host : str
        There are no keys on this port, so by default this machine only.
    metrics_port : int, optional
        0 takes a free one; by default there are no metrics.
    otlp_endpoint : str, optional
        Where traces go, as `http://host:4317`; by default nowhere.
    """

    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = None
    otlp_endpoint: str | None = None


class Sight:
    """Sees every call of a server begin and end.

    Parameters
    ----------
    metrics : Metrics, optional
    metrics_url : str
        Where they are scraped; "" where they are not.
    traces : Traces, optional
    """

    def __init__(
        self, metrics: Metrics | None = None, *, metrics_url: str = "", traces: "Traces | None" = None
    ) -> None:
        self._metrics = metrics
        self._traces = traces
        self.metrics_url = metrics_url
        self._budget = _Budget()

    @classmethod
    @contextmanager
    def opened(cls, settings: SightSettings) -> "Iterator[Sight]":
        """Open what the settings ask for, and close it when the block ends; raises ServerNotStarted if it cannot be."""
        with ExitStack() as stack:
            metrics, url = None, ""
            if settings.metrics_port is not None:
                metrics = Metrics()
                port = metrics_port(metrics.registry, host=settings.metrics_host, port=settings.metrics_port)
                url = stack.enter_context(port)
            traces = stack.enter_context(_traces(settings.otlp_endpoint)) if settings.otlp_endpoint else None
            yield cls(metrics, metrics_url=url, traces=traces)

    def watch_server(
        self, served: Callable[[], Mapping[str, Extractor]], serves: Callable[[str], bool], running: Callable[[], int]
    ) -> None:
        """Read what is served, whether it serves and how many calls run whenever metrics are scraped.

        `served` is called in the thread of whoever scrapes, and gives a mapping that nobody changes any more.
        """
        if self._metrics is not None:
            self._metrics.registry.register(Gauges(served, serves, running))
        for name, extractor in served().items():
            self.watch(name, extractor)

    def watch(self, name: str, extractor: Extractor) -> None:
        """Observe the batches of one backbone, from now on."""
        if self._metrics is not None:
            extractor.on_batch(partial(self._metrics.batch, name))

    def began(self, call: "Call") -> None:
        """See a call begin; what is logged from here on carries its id."""
        logs.request_id.set(call.request_id)
        if self._traces is not None:
            self._traces.began(call)

    def extracted(self, call: "Call", backbone: str, outcomes: Sequence[Outcome], times: StageTimes) -> None:
        """See items of a call answered; `backbone` is the name of one that is served."""
        call.n_items += len(outcomes)
        self.embedded(call, backbone, outcomes, times)

    def embedded(self, call: "Call", backbone: str, outcomes: Sequence[Outcome], times: StageTimes) -> None:
        """See items of a call embedded that are answered otherwise: with a prediction, or by a head in the end."""
        if self._metrics is not None:
            self._metrics.extracted(backbone, outcomes, times)
        if self._traces is not None:
            self._traces.extracted(call, backbone, len(outcomes), times)

    def predicted(self, call: "Call", head: str, outcomes: Mapping[str, int]) -> None:
        """See predictions of a call made: how many were `known`, `unknown` or an `error`; `head` is one that exists."""
        call.n_items += sum(outcomes.values())
        if self._metrics is not None:
            self._metrics.predicted(head, outcomes)

    def classified(self, call: "Call", outcomes: Mapping[str, int]) -> None:
        """See items of a call classified by a few-shot task: how many were `known`, `unknown` or an `error`."""
        call.n_items += sum(outcomes.values())
        if self._metrics is not None:
            self._metrics.classified(outcomes)

    def job_ended(self, state: str, seconds: float) -> None:
        """See a training job end as `done`, `failed` or `cancelled`."""
        if self._metrics is not None:
            self._metrics.job_ended(state, seconds)

    def ended(self, call: "Call", code: grpc.StatusCode) -> None:
        """See a call end."""
        seconds = time.monotonic() - call.begun_s
        if self._metrics is not None:
            self._metrics.ended(call.method, code, call.error, seconds)
        if self._traces is not None:
            self._traces.ended(call, code)
        self._log(call, code, seconds)

    def _log(self, call: "Call", code: grpc.StatusCode, seconds: float) -> None:
        level = _level(code, seconds)
        if not log.isEnabledFor(level):
            return
        if level == logging.INFO and not log.isEnabledFor(logging.DEBUG) and not self._budget.spend():
            return
        fields = {
            "method": call.method,
            "code": code.name,
            "ms": round(seconds * 1000, 3),
            "items": call.n_items,
            "caller": call.caller.name,
        }
        why = f": {str(call.error)[:MESSAGE_LENGTH]}" if call.error else ""
        left_out = f" ({left} more calls had no line)" if (left := self._budget.left_out()) else ""
        message = "%s %s in %.1f ms, %d items%s%s"
        log.log(level, message, call.method, code.name, fields["ms"], call.n_items, why, left_out, extra=fields)


def _traces(endpoint: str) -> "AbstractContextManager[Traces]":
    if not endpoint.startswith(("http://", "https://")):
        raise ServerNotStarted(f"the endpoint for traces is {endpoint!r}; write it as http://host:4317, or https://")
    try:
        from headwater.service.traces import Traces
    except ModuleNotFoundError as error:
        raise ServerNotStarted(
            f"traces are to go to {endpoint}, but {error.name} is not installed: pip install 'headwater[otel]', "
            "or unset --otlp-endpoint and OTEL_EXPORTER_OTLP_ENDPOINT"
        ) from None
    return Traces.opened(endpoint)


def _level(code: grpc.StatusCode, seconds: float) -> int:
    if code in _OUR_FAULT:
        return logging.WARNING
    return logging.INFO if code is not grpc.StatusCode.OK or seconds >= SLOW_S else logging.DEBUG


class _Budget:
    """How many lines this second may still have."""

    def __init__(self) -> None:
        self._second = 0
        self._spent = 0
        self._left_out = 0

    def spend(self) -> bool:
        """Take a line, or count it as left out."""
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._spent = second, 0
        self._spent += 1
        if self._spent <= LINES_PER_S:
            return True
        self._left_out += 1
        return False

    def left_out(self) -> int:
        """Return how many lines were left out since this was last asked."""
        number, self._left_out = self._left_out, 0
        return number
