"""Whom the commands for few-shot tasks ask: a server that is named, or one of their own, in a thread, for their length.

So that there is one way, and what a command does here a server does too.
"""

import asyncio
import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headwater.commands.access import CaOption, CertKeyOption, CertOption, KeyOption
from headwater.commands.embed import CacheOption

if TYPE_CHECKING:
    from extractor.pipeline import Extractor
    from headwater.client import Client
    from headwater.fewshot_client import FewShotTask

STOP_S = 30.0

ServerOption = Annotated[
    str | None,
    typer.Option(
        help="`host:port` of the server that has the tasks; by default they are those under HEADWATER_HOME here.",
        envvar="HEADWATER_SERVER",
    ),
]
BackboneOption = Annotated[
    str, typer.Option(help="Name or folder of the backbone here; by default the one that the task names.")
]


@dataclass(frozen=True)
class Whom:
    """Whom a command asks.

    Parameters
    ----------
    server : str, optional
        `host:port`; None: what is here.
    backbone : str
    cache : str, optional
        Of a backbone here.
    access : dict
        Parameters of a Client.
    """

    server: str | None
    backbone: str
    cache: str | None
    access: dict[str, Any]

    @contextmanager
    def client(self, *backbones: str) -> "Iterator[Client]":
        """Open a client; of a server here, which has these backbones."""
        from headwater.client import Client

        if self.server:
            with Client(self.server, **self.access) as there:
                yield there
        else:
            with served_here(backbones, self.cache) as target, Client(target) as here:
                yield here

    @contextmanager
    def task(self, name: str, *, embeds: bool = False) -> "Iterator[FewShotTask]":
        """Open a task; here, with its backbone where it is to embed something."""
        backbones = [self.backbone or backbone_of(name)] if embeds and not self.server else []
        with self.client(*backbones) as client:
            yield client.task(name)


def asks(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say whom it asks, in place of its first parameter, `whom`."""

    @wraps(command)
    def run(
        *args: Any,
        server: ServerOption = None,
        backbone: BackboneOption = "",
        cache: CacheOption = None,
        key: KeyOption = None,
        ca: CaOption = None,
        cert: CertOption = None,
        cert_key: CertKeyOption = None,
        **others: Any,
    ) -> None:
        access = {"key": key, "ca": ca, "cert": cert, "cert_key": cert_key}
        command(Whom(server, backbone, cache, access), *args, **others)

    _, *own = inspect.signature(command, eval_str=True).parameters.values()
    given = [
        one
        for one in inspect.signature(run, follow_wrapped=False, eval_str=True).parameters.values()
        if one.kind is one.KEYWORD_ONLY
    ]
    run.__signature__ = inspect.Signature([*own, *given])  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in (*own, *given)}
    return run


def backbone_of(task: str) -> str:
    """Return the backbone that a task here names; raises TaskNotFound, TaskInvalid, StoreInUse."""
    from classifiers.tasks import TaskStore
    from extractor.home import tasks_folder

    with _at_hand(), TaskStore.open(tasks_folder()) as store:
        return store.glance(task).facts.backbone


@contextmanager
def served_here(backbones: tuple[str, ...], cache: str | None) -> Iterator[str]:
    """Serve the tasks here on a port that this machine alone reaches, and yield its address."""
    from classifiers.tasks import TaskStore
    from extractor.home import tasks_folder
    from extractor.pipeline import Extractor

    with _at_hand(), TaskStore.open(tasks_folder()):
        pass  # nobody else has them: it is told now, and by what can be done
    loaded = [Extractor.load(name, cache=cache) for name in backbones]
    with _serving({one.spec.name: one for one in loaded}) as target:
        yield target


@contextmanager
def _at_hand() -> Iterator[None]:
    from classifiers.errors import StoreInUse
    from extractor.home import tasks_folder
    from headwater.errors import OutputNotWritable

    try:
        yield
    except StoreInUse:
        raise StoreInUse(
            f"a running server, or another command, has the few-shot tasks in {tasks_folder()}; "
            "ask that server with --server HOST:PORT, or stop it"
        ) from None
    except OSError as error:
        raise OutputNotWritable.by(error, tasks_folder()) from None


@contextmanager
def _serving(extractors: "dict[str, Extractor]") -> Iterator[str]:
    from headwater.errors import ServerNotStarted
    from headwater.server import ServerSettings, serve

    ready = threading.Event()
    told: dict[str, Any] = {}

    async def main() -> None:
        told["loop"], told["stop"] = asyncio.get_running_loop(), asyncio.Event()
        await serve(extractors, ServerSettings(port=0), ready=listening, stop=told["stop"])

    def listening(address: str) -> None:
        told["address"] = address
        ready.set()

    def run() -> None:
        try:
            asyncio.run(main())
        except Exception as error:  # whatever it is, who waits for the server is told
            told["error"] = error
        finally:
            ready.set()

    thread = threading.Thread(target=run, name="headwater-server", daemon=True)
    thread.start()
    ready.wait()
    if "address" not in told:
        raise ServerNotStarted(f"no server could be started here: {told.get('error')}") from told.get("error")
    try:
        yield told["address"]
    finally:
        told["loop"].call_soon_threadsafe(told["stop"].set)
        thread.join(STOP_S)
