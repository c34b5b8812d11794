"""Rows of a benchmark -> a table on the terminal and a JSON file in `results/`, with what a reader must know."""

import json
import os
import platform
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

PACKAGES = (
    *("onnxruntime", "onnxruntime-gpu", "openvino", "grpcio", "pillow", "numpy", "scikit-learn", "faiss-cpu"),
    *("soundfile", "soxr", "openwakeword", "pyarrow", "ray"),
)


def write_result(script: Path, rows: list[dict[str, Any]], *, note: str, suffix: str = "") -> None:
    """Print rows and write `results/SCRIPT.json`."""
    table = Table(title=script.stem, caption=note)
    for column in rows[0]:
        table.add_column(column)
    for row in rows:
        table.add_row(*map(str, row.values()))
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    keep_result(script, rows, note=note, suffix=suffix)


def keep_result(script: Path, rows: list[dict[str, Any]], *, note: str, suffix: str = "") -> None:
    """Write `results/SCRIPT.json` with machine, commit, command and versions."""
    result = {
        "command": f"python benchmarks/{script.name} {' '.join(map(_shown, sys.argv[1:]))}".strip(),
        "commit": _git("rev-parse", "--short", "HEAD") + ("+" if _git("status", "--porcelain", "-uno") else ""),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": {"processor": _processor(), "cores": len(_cores()), "python": platform.python_version()},
        "versions": _versions(),
        "load_of_machine": os.getloadavg()[0],
        "note": note,
        "rows": rows,
    }
    target = script.parent / "results" / f"{script.stem}{suffix}.json"
    target.write_text(json.dumps(result, indent=2) + "\n")


def markdown(rows: list[dict[str, Any]]) -> str:
    """Return rows as a table for `README.md`."""
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(map(str, row.values())) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _shown(argument: str) -> str:
    """Return an argument as a reader may see it: paths of this machine tell nothing elsewhere."""
    return "PATH" if Path(argument).is_absolute() else argument


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False, cwd=Path(__file__).parent)
    return done.stdout.strip()


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):  # of two that exclude each other, or of an extra
            found[name] = version(name)
    return found


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _cores() -> set[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
