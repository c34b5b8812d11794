"""A process -> what it and all its descendants use: processor time in seconds, memory in MB, and how to hold them."""

import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
KB_PER_MB = 1000 / 1.024  # the kernel's kB are 1,024 bytes


def tree(root: int) -> list[int]:
    """Return a process and its descendants that live."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        if (fields := _fields(stat)) is not None:
            children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found = [root]
    for pid in found:  # grows while it is walked
        found.extend(children.get(pid, []))
    return found


def cpu_seconds(root: int) -> float:
    """Return the processor time that a process and its living descendants have used."""
    return sum(cpu_by_process(root).values())


def cpu_by_process(root: int) -> dict[int, float]:
    """Return the same for each of them."""
    stats = ((pid, _fields(Path(f"/proc/{pid}/stat"))) for pid in tree(root))
    return {pid: (int(found[11]) + int(found[12])) / TICKS_PER_S for pid, found in stats if found is not None}


def memory_mb(root: int) -> float:
    """Return the proportional set size (pages shared by n processes count a n-th in each), in MB."""
    return sum(map(_pss_kb, tree(root))) / KB_PER_MB


def hold(root: int) -> None:
    """Stop a process and its descendants until `release`: what is idle must not spin beside what is measured."""
    _signal(root, signal.SIGSTOP)


def release(root: int) -> None:
    """Let them go on."""
    _signal(root, signal.SIGCONT)


def end(process: "subprocess.Popen[bytes]", patience_s: float = 15.0) -> None:
    """Ask a process to end, so that it takes leave of its children; kill what is left of them."""
    pids = tree(process.pid)
    process.terminate()
    try:
        process.wait(patience_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pid in pids:
        _send(pid, signal.SIGKILL)


def _signal(root: int, number: signal.Signals) -> None:
    for pid in tree(root):
        _send(pid, number)


def _send(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # it has just ended
        os.kill(pid, number)


def _fields(stat: Path) -> list[str] | None:
    """Return the fields after the program's name, which may hold blanks; None when the process has just ended."""
    try:
        return stat.read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def _pss_kb(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
