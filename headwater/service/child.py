"""A job's folder -> its process, which tells how far it is, and what it measured in the end.

The process is in a group of its own, so that it ends with all that it has started; not in a session of its own, for
Linux would then share the processor between sessions (autogroups), and its low priority would count for nothing.
"""

import asyncio
import json
import logging
import os
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from headwater import status
from headwater.errors import JobFailed, ServiceError
from headwater.order import LOG_FILE, command, environment

log = logging.getLogger(__name__)

LOG_BYTES = 2000  # of what a process that died has said
MAX_LINE_BYTES = 16 << 20  # with what was measured for each of many classes

Report = Callable[[int, int, str], object]


async def run(folder: Path, report: Report) -> dict[str, float]:
    """Run the job of a folder; the process is dead when this returns, also where it is cancelled.

    Parameters
    ----------
    folder : Path
    report : callable
        Called with (steps done, steps in all, what is done now).

    Returns
    -------
    dict of str to float
        What was measured.

    Raises
    ------
    CallError
        What ended the job; JobFailed where the process died.
    OSError
        No process can be started.
    """
    metrics: dict[str, float] | None = None
    error: status.CallError | None = None
    async with _process(folder) as process:
        assert process.stdout is not None  # noqa: S101  # for mypy: it was asked for
        async for line in process.stdout:
            told = json.loads(line)
            if "progress" in told:
                done, total, step = told["progress"]
                report(int(done), int(total or 0), str(step))
            elif "error" in told:
                error = _error(*told["error"])
            else:
                metrics = told["done"]
        code = await process.wait()
    if metrics is None and (error is None or isinstance(error, JobFailed)):
        said = await asyncio.to_thread(_last_words, folder)
        log.warning("the process of a training job ended with %d: %s", code, said)
    if error is not None:
        raise error
    if metrics is None:
        raise JobFailed(f"the training process {_how(code)}; train again, and see the server's log if it does so again")
    return metrics


@asynccontextmanager
async def _process(folder: Path) -> AsyncIterator[Process]:
    """Give a job's process, and end it with its group."""
    with (folder / LOG_FILE).open("wb") as said:
        process = await asyncio.create_subprocess_exec(
            *command(folder),
            stdin=PIPE,
            stdout=PIPE,
            stderr=said,
            env=environment(),
            process_group=0,
            limit=MAX_LINE_BYTES,
        )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def _error(reason: str, message: str) -> status.CallError:
    """Return the error of a class that the process names; one of no class that travels is a failure of the job."""
    error = status.told(0, reason, message)
    return JobFailed(f"{reason}: {message}") if isinstance(error, ServiceError) else error


def _how(code: int) -> str:
    return f"was ended by signal {-code} ({signal.strsignal(-code)})" if code < 0 else f"ended with code {code}"


def _last_words(folder: Path) -> str:
    with suppress(OSError):
        return (folder / LOG_FILE).read_bytes()[-LOG_BYTES:].decode(errors="replace").strip()
    return ""
