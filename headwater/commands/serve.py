"""`headwater serve`: backbones -> a gRPC port, until SIGTERM."""

import logging
from collections.abc import Callable
from contextlib import closing, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headwater import logs
from headwater.console import out
from headwater.errors import ServerNotStarted

if TYPE_CHECKING:
    from extractor.pipeline import Extractor
    from headwater.tls import TlsFiles

log = logging.getLogger(__name__)

MIB = 1 << 20


def serve(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="BACKBONE", help="Names or folders; by default all that are installed."),
    ] = None,
    host: Annotated[
        str,
        typer.Option(
            help="Address to listen on; one that others reach needs `--keys` or `--tls-client-ca`.",
            envvar="HEADWATER_HOST",
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.", envvar="HEADWATER_PORT")
    ] = 50051,
    runtime: Annotated[
        str | None,
        typer.Option(help="`onnxruntime` or `openvino`; by default as tuned here.", envvar="HEADWATER_RUNTIME"),
    ] = None,
    provider: Annotated[
        str | None,
        typer.Option(
            help="`cpu` or `cuda`; by default as tuned here, else cuda where onnxruntime has it.",
            envvar="HEADWATER_PROVIDER",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, help="Forwards at once of a backbone; by default as tuned here.", envvar="HEADWATER_WORKERS"
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="Threads in one forward; by default as tuned here.", envvar="HEADWATER_THREADS"),
    ] = None,
    decode_threads: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Threads that decode beside the workers; 0: the workers do. By default as tuned here.",
            envvar="HEADWATER_DECODE_THREADS",
        ),
    ] = None,
    max_batch_size: Annotated[
        int | None,
        typer.Option(min=1, help="Items in one forward; by default as tuned here.", envvar="HEADWATER_MAX_BATCH_SIZE"),
    ] = None,
    cache: Annotated[
        str | None,
        typer.Option(
            help="Where embeddings are kept: `off`, `memory`, a folder, `redis://HOST:PORT/0`. "
            "By default the user's cache folder.",
            envvar="HEADWATER_CACHE",
        ),
    ] = None,
    cache_mib: Annotated[
        int | None,
        typer.Option(
            min=1, help="Its bound in memory (by default 256) or on disk (8192).", envvar="HEADWATER_CACHE_MIB"
        ),
    ] = None,
    cache_min_free_mib: Annotated[
        int,
        typer.Option(
            min=0, help="Store nothing while the disk has less room than that.", envvar="HEADWATER_CACHE_MIN_FREE_MIB"
        ),
    ] = 1024,
    max_item_mib: Annotated[int, typer.Option(min=1, help="Largest item.", envvar="HEADWATER_MAX_ITEM_MIB")] = 16,
    max_text_kib: Annotated[int, typer.Option(min=1, help="Longest text.", envvar="HEADWATER_MAX_TEXT_KIB")] = 1024,
    max_megapixels: Annotated[
        int,
        typer.Option(
            min=1, max=85, help="Largest image, in units of 1,048,576 pixels.", envvar="HEADWATER_MAX_MEGAPIXELS"
        ),
    ] = 64,
    max_message_mib: Annotated[
        int, typer.Option(min=1, max=1024, help="Largest message, either way.", envvar="HEADWATER_MAX_MESSAGE_MIB")
    ] = 64,
    max_items: Annotated[int, typer.Option(min=1, help="Items a request.", envvar="HEADWATER_MAX_ITEMS")] = 1024,
    max_stream_items: Annotated[
        int,
        typer.Option(
            min=1,
            help="Items of one stream that are unanswered while more are read.",
            envvar="HEADWATER_MAX_STREAM_ITEMS",
        ),
    ] = 256,
    max_queue_size: Annotated[
        int, typer.Option(min=1, help="Items that wait for a backbone.", envvar="HEADWATER_MAX_QUEUE_SIZE")
    ] = 4096,
    max_queue_mib: Annotated[
        int, typer.Option(min=1, help="Bytes that wait, a backbone.", envvar="HEADWATER_MAX_QUEUE_MIB")
    ] = 512,
    max_queue_delay_ms: Annotated[
        float | None,
        typer.Option(
            min=0, help="How long an item may wait for others to fill its batch.", envvar="HEADWATER_MAX_QUEUE_DELAY_MS"
        ),
    ] = None,
    max_forward_s: Annotated[
        float,
        typer.Option(
            min=0.1,
            help="A forward that takes longer hangs: its callers are told, and health says so.",
            envvar="HEADWATER_MAX_FORWARD_S",
        ),
    ] = 60.0,
    max_concurrent_calls: Annotated[
        int, typer.Option(min=1, help="Calls at once.", envvar="HEADWATER_MAX_CONCURRENT_CALLS")
    ] = 1024,
    drain_s: Annotated[
        float,
        typer.Option(
            min=0,
            help="Seconds that running calls have after SIGTERM; it exits at most 20 later.",
            envvar="HEADWATER_DRAIN_S",
        ),
    ] = 10.0,
    check_timeout_s: Annotated[
        float,
        typer.Option(
            min=0.1,
            help="A session that does not answer within so many seconds is said not to serve.",
            envvar="HEADWATER_CHECK_TIMEOUT_S",
        ),
    ] = 10.0,
    keys: Annotated[
        Path | None,
        typer.Option(
            help="File of the keys that callers must show: see `headwater keys`. It is read again when it changes.",
            envvar="HEADWATER_KEYS",
        ),
    ] = None,
    tls_cert: Annotated[
        Path | None,
        typer.Option(
            help="The server's certificate, with its chain, in PEM; read again when it changes.",
            envvar="HEADWATER_TLS_CERT",
        ),
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its private key, in PEM.", envvar="HEADWATER_TLS_KEY")] = None,
    tls_client_ca: Annotated[
        Path | None,
        typer.Option(
            help="Authorities, in PEM: every client must show a certificate of one of them.",
            envvar="HEADWATER_TLS_CLIENT_CA",
        ),
    ] = None,
    open_to_all: Annotated[
        bool,
        typer.Option(
            "--open-to-all",
            help="Serve whoever reaches an address that others reach, without keys or client certificates.",
            envvar="HEADWATER_OPEN_TO_ALL",
        ),
    ] = False,
    dumps: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the dumps that heads may be trained on through the service; by default none may.",
            envvar="HEADWATER_DUMPS",
        ),
    ] = None,
    training_jobs: Annotated[
        int,
        typer.Option(
            min=1,
            help="Heads trained at once, each in a process of low priority.",
            envvar="HEADWATER_TRAINING_JOBS",
        ),
    ] = 1,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="Port for Prometheus; 0 takes a free one. By default none.",
            envvar="HEADWATER_METRICS_PORT",
        ),
    ] = None,
    metrics_host: Annotated[
        str, typer.Option(help="Address of that port; it asks for no key.", envvar="HEADWATER_METRICS_HOST")
    ] = "127.0.0.1",
    otlp_endpoint: Annotated[
        str | None,
        typer.Option(
            help="Where OpenTelemetry traces go, as http://host:4317; by default nowhere.",
            envvar=["HEADWATER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"],
        ),
    ] = None,
    log_format: Annotated[logs.Form, typer.Option(help="Of the lines on stderr.", envvar="HEADWATER_LOG_FORMAT")] = (
        logs.Form.text
    ),
    log_level: Annotated[
        logs.Level,
        typer.Option(
            help="`debug`: a line a call; `info`: those that failed or were slow.", envvar="HEADWATER_LOG_LEVEL"
        ),
    ] = logs.Level.info,
) -> None:
    """Serve backbones over gRPC, with health and reflection on the same port, until SIGTERM or Ctrl-C.

    Example: `headwater serve efficientnet-lite0 minilm-l6 --port 50051`
    """
    from extractor.cache.opened import open_cache
    from extractor.limits import Limits
    from extractor.pipeline import Extractor
    from headwater import server
    from headwater.convert import RequestLimits
    from headwater.service.sight import Sight, SightSettings

    logs.configure(log_format, log_level)
    limits = Limits(
        max_item_bytes=max_item_mib * MIB,
        max_text_bytes=max_text_kib * 1024,
        max_pixels=max_megapixels * MIB,
        max_queue_size=max_queue_size,
        max_queue_bytes=max_queue_mib * MIB,
        max_forward_s=max_forward_s,
    )
    if max_item_mib > max_message_mib:
        raise ServerNotStarted(f"an item of {max_item_mib} MiB does not fit a message of {max_message_mib} MiB")
    settings = server.ServerSettings(
        host=host,
        port=port,
        drain_s=drain_s,
        check_timeout_s=check_timeout_s,
        max_concurrent_calls=max_concurrent_calls,
        limits=RequestLimits(
            max_items=max_items, max_message_bytes=max_message_mib * MIB, max_stream_items=max_stream_items
        ),
        keys=keys,
        tls=_tls_files(tls_cert, tls_key, tls_client_ca),
        open_to_all=open_to_all,
        dumps=dumps,
        training_jobs=training_jobs,
    )
    if note := server.check(settings):
        log.warning("%s", note)
    store = open_cache(cache, max_mib=cache_mib, min_free_mib=cache_min_free_mib)
    load = partial(
        Extractor.load,
        cache="off" if store is None else store,  # an empty one is false
        limits=limits,
        runtime=runtime,
        provider=provider,
        workers=workers,
        threads=threads,
        decode_threads=decode_threads,
        max_batch_size=max_batch_size,
        max_queue_delay_ms=max_queue_delay_ms,
    )

    def ready(address: str) -> None:
        for name, extractor in extractors.items():
            facts = (name, extractor.dim, extractor.backbone, extractor.fingerprint)
            log.info("%s: %d-d, %s, fingerprint %s", *facts)
        if sight.metrics_url:
            log.info("metrics at %s", sight.metrics_url)
        out.print(f"headwater serves {', '.join(extractors)} at {address}", soft_wrap=True)
        out.file.flush()

    shown = SightSettings(metrics_host=metrics_host, metrics_port=metrics_port, otlp_endpoint=otlp_endpoint)
    # Both before the backbones are loaded: a port that is taken, or a setting that is none, is told at once.
    with Sight.opened(shown) as sight, nullcontext() if store is None else closing(store):
        extractors = _load(names or _all_installed(), load)
        server.run(extractors, settings, ready=ready, load=load, sight=sight)
    log.info("stopped")


def _tls_files(cert: Path | None, key: Path | None, client_ca: Path | None) -> "TlsFiles | None":
    from headwater.tls import TlsFiles

    if cert is None and key is None and client_ca is None:
        return None
    if cert is None or key is None:
        raise ServerNotStarted("TLS needs both the server's certificate and its private key: --tls-cert and --tls-key")
    return TlsFiles(cert=cert, key=key, client_ca=client_ca)


def _all_installed() -> list[str]:
    from extractor.errors import BackboneNotFound
    from extractor.home import backbones_folder
    from extractor.shelf import installed

    names = [folder.name for folder in installed()]
    if not names:
        raise BackboneNotFound(f"no backbone is installed in {backbones_folder()}; make one: {_export_command()}")
    return names


def _export_command() -> str:
    from importlib.util import find_spec

    first = "" if find_spec("torch") and find_spec("onnx") else "pip install 'headwater[export]' && "
    return f"{first}headwater export efficientnet-lite0"


def _load(names: list[str], load: "Callable[[str], Extractor]") -> "dict[str, Extractor]":
    """Load every backbone, or none; an installed one under its own name, as the admin's calls find it."""
    from extractor.home import backbones_folder
    from extractor.shelf import find_backbone

    extractors: dict[str, Extractor] = {}
    try:
        for name in names:
            extractor = load(name)
            if name != extractor.spec.name and find_backbone(name).parent == backbones_folder():
                extractor.close()
                raise ServerNotStarted(
                    f"the backbone in the folder {name!r} calls itself {extractor.spec.name!r}; rename the folder"
                )
            if extractor.spec.name in extractors:
                extractor.close()
                raise ServerNotStarted(f"two backbones are named {extractor.spec.name!r}; name each once")
            extractors[extractor.spec.name] = extractor
    except BaseException:
        for extractor in extractors.values():
            extractor.close()
        raise
    return extractors
