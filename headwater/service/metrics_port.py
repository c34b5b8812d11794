"""The port on which Prometheus scrapes: a registry -> `http://host:port/metrics`."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from prometheus_client import CollectorRegistry, start_http_server

from headwater.errors import ServerNotStarted

log = logging.getLogger(__name__)

TIMEOUT_S = 10.0  # for a scrape to be asked for and taken: who connects and says nothing holds no thread for long


@contextmanager
def metrics_port(registry: CollectorRegistry, *, host: str, port: int) -> Iterator[str]:
    """Serve a registry over HTTP and yield its URL; the port is closed when the block ends.

    Parameters
    ----------
    registry : CollectorRegistry
    host : str
    port : int
        0 takes a free one.

    Raises
    ------
    ServerNotStarted
        The address cannot be bound.
    """
    try:
        server, thread = start_http_server(port, host.strip("[]"), registry)
    except OSError as error:
        raise ServerNotStarted(
            f"cannot listen for metrics on {host}:{port}: {error.strerror}; "
            "choose another with --metrics-port (0 takes a free one) or --metrics-host"
        ) from None
    answering: Any = server.RequestHandlerClass
    server.RequestHandlerClass = type("Scrape", (answering,), {"timeout": TIMEOUT_S})
    server.handle_error = _note  # type: ignore[method-assign]  # its own prints a traceback where logs are written
    try:
        shown = f"[{host.strip('[]')}]" if ":" in host else host
        yield f"http://{shown}:{server.server_port}/metrics"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _note(request: Any, client_address: Any) -> None:
    log.debug("a scrape from %s came to nothing", client_address, exc_info=True)
