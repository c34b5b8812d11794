"""The port on which Prometheus scrapes: a registry -> `http://host:port/metrics`."""

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, start_http_server

from headwater.errors import ServerNotStarted


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
    try:
        shown = f"[{host.strip('[]')}]" if ":" in host else host
        yield f"http://{shown}:{server.server_port}/metrics"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
