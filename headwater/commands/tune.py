"""`headwater tune`: a backbone -> the plan that is fastest on this machine, kept beside it."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from headwater.console import err, out

if TYPE_CHECKING:
    from extractor.tune.search import Goal, Report, Row


def tune(
    backbone: Annotated[str, typer.Argument(help="Name or folder.")],
    p99_ms: Annotated[
        float | None,
        typer.Option(min=0, help="Bound on the 99th percentile of an item's latency.", envvar="HEADWATER_TUNE_P99_MS"),
    ] = None,
    callers: Annotated[
        int,
        typer.Option(min=1, help="Who ask at once, for one item each.", envvar="HEADWATER_TUNE_CALLERS"),
    ] = 32,
    seconds: Annotated[
        float, typer.Option(min=0, help="About how long to measure.", envvar="HEADWATER_TUNE_SECONDS")
    ] = 90.0,
    items: Annotated[
        Path | None,
        typer.Option(
            help="Your own items: a folder of files, or for texts a file with one in each line.",
            envvar="HEADWATER_TUNE_ITEMS",
        ),
    ] = None,
    min_mean_cosine: Annotated[
        float, typer.Option(min=0, max=1, help="Least mean cosine to fp32.", envvar="HEADWATER_TUNE_MIN_MEAN_COSINE")
    ] = 0.998,
    min_cosine: Annotated[
        float, typer.Option(min=0, max=1, help="Least cosine to fp32.", envvar="HEADWATER_TUNE_MIN_COSINE")
    ] = 0.99,
    min_neighbours: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            help="Least share of items that keep their nearest neighbour.",
            envvar="HEADWATER_TUNE_MIN_NEIGHBOURS",
        ),
    ] = 0.9,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Keep nothing.")] = False,
) -> None:
    """Measure which runtime, provider, workers, threads and batches serve a backbone best here, and keep the choice.

    Another precision is another fingerprint: it is only proposed, as a backbone of its own.

    Example: `headwater tune efficientnet-lite0 --p99-ms 100`
    """
    from extractor.fidelity import Floor
    from extractor.shelf import find_backbone
    from extractor.spec import read_spec
    from extractor.tune.items import load_items
    from extractor.tune.search import Goal

    folder = find_backbone(backbone)
    floor = Floor(mean_cosine=min_mean_cosine, min_cosine=min_cosine, neighbours=min_neighbours)
    goal = Goal(callers=callers, p99_ms=p99_ms, floor=floor)
    report = _measure(folder, load_items(read_spec(folder).modality, items), goal, seconds)
    out.print(_fidelities(report), _speeds(report))
    out.print("workers × threads + decode threads; plans that lost a heat were measured in fewer rounds")
    _propose(report, backbone, items if items and items.is_dir() else None)
    best = _words(report.best)
    if dry_run:
        out.print(f"best: {best}; nothing was kept", soft_wrap=True, markup=False)
    else:
        _keep(folder, report.best, best)


def _measure(folder: Path, items: list[bytes], goal: "Goal", seconds: float) -> "Report":
    from extractor.tune.search import tune as measure

    columns = (
        BarColumn(),
        TextColumn("{task.percentage:.0f} %"),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task("starting", total=1.0)
        return measure(
            folder,
            items,
            goal,
            seconds=seconds,
            progress=lambda share, step: bar.update(task, completed=share, description=escape(step)),
        )


def _fidelities(report: "Report") -> Table:
    """Lay out what was compared with fp32, once a runtime and precision; what is refused with its reason."""
    table = _empty_table("runtime", "mean cosine", "least", "neighbours", "")
    firsts = {_where(row): row for row in reversed(report.rows)}
    for where, row in reversed(firsts.items()):
        fidelity = row.fidelity
        facts = (fidelity.mean_cosine, fidelity.min_cosine, fidelity.neighbours) if fidelity else ()
        numbers = [f"{value:.5f}" for value in facts] or [""] * 3
        table.add_row(where, *numbers, f"refused: {escape(row.refused)}" if row.refused else "")
    return table


def _speeds(report: "Report") -> Table:
    """Lay out the plans that were measured, of each precision those of the last heat first."""
    table = _empty_table("runtime", "workers", "batch", "items/s", "p99 ms", "CPU ms", "")
    for row in sorted(report.rows, key=lambda row: (row.candidate.precision, -len(row.rounds), -row.items_per_s)):
        plan, speed = row.candidate.plan, row.speed
        if speed is None:
            continue
        workers = f"{plan.workers} × {plan.threads}" + (f" + {plan.decode_threads}" if plan.decode_threads else "")
        remark = "best" if row is report.best else "offered" if row in report.proposals else escape(row.refused)
        table.add_row(
            _where(row),
            workers,
            str(plan.max_batch_size),
            f"{speed.items_per_s:.0f}",
            f"{speed.p99_ms:.0f}",
            f"{speed.cpu_ms:.1f}",
            remark,
            style="bold" if remark == "best" else None,
        )
    return table


def _empty_table(*titles: str) -> Table:
    table = Table(box=SIMPLE_HEAD)
    for title in titles:
        table.add_column(title, no_wrap=bool(title), min_width=None if title else 8)  # only remarks wrap
    return table


def _where(row: "Row") -> str:
    plan = row.candidate.plan
    return f"{plan.runtime} {plan.provider} {row.candidate.precision}"


def _propose(report: "Report", backbone: str, items: Path | None) -> None:
    """Say what another precision would give, and the command that makes it a backbone."""
    from extractor.derive import derived_name
    from extractor.spec import read_spec

    name = read_spec(report.best.folder).name
    held = f" --held {shlex.quote(str(items))}" if items else ""
    for row in report.proposals:
        precision, times = row.candidate.precision, row.items_per_s / report.best.items_per_s
        other = derived_name(name, precision)
        out.print(
            f"{precision} gives {times:.2f} times the items/s, with embeddings of another fingerprint: as a backbone "
            f"of its own, {other}, it leaves {name} and what was learnt on it as they are. Make it, then tune it:\n"
            f"  headwater export {backbone} --precision {precision}{held}\n  headwater tune {other}",
            soft_wrap=True,
            markup=False,
        )


def _keep(folder: Path, best: "Row", words: str) -> None:
    from dataclasses import asdict

    from extractor.errors import PlanNotStored
    from extractor.runtime import versions
    from extractor.stored import StoredPlan, store_plan

    measured = {name: round(value, 3) for name, value in asdict(best.speed).items()} if best.speed else {}
    try:
        path = store_plan(folder, StoredPlan(plan=best.candidate.plan, measured=measured, versions=versions()))
    except PlanNotStored as error:
        raise PlanNotStored(f"{error}; or give the plan to headwater serve: {words}") from None
    out.print(f"kept in {path}, for this machine: {words}", soft_wrap=True, markup=False)


def _words(row: "Row") -> str:
    """Return a plan as the flags of `headwater serve`."""
    plan = row.candidate.plan
    return (
        f"--runtime {plan.runtime} --provider {plan.provider} --workers {plan.workers} --threads {plan.threads} "
        f"--decode-threads {plan.decode_threads} --max-batch-size {plan.max_batch_size}"
    )
