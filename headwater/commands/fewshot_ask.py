"""`headwater fewshot classify|suggest|audit|evaluate`: what a task tells of items, and of itself."""

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.progress import Progress as Bar
from rich.table import Table

from headwater.commands.counted import counted
from headwater.commands.embed import ItemColumnOption, LabelColumnOption
from headwater.commands.fewshot_server import Whom, asks
from headwater.commands.fewshot_words import FilesArgument, JsonOption, TaskArgument, TextOption, as_json, items_of
from headwater.console import err, out

if TYPE_CHECKING:
    from headwater.fewshot import AuditReport, Classification, TaskAnswer
    from headwater.fewshot_calls import Shown
    from headwater.fewshot_client import FewShotTask
    from headwater.fewshot_evaluation import TaskMeasures

RATES = (0.01, 0.02, 0.05, 0.1, 0.2)  # wanted false-alarm rates that `evaluate` shows beside the task's own
SETTLING_S = 60.0  # for what is being learnt in the background
LOOK_S = 0.1


@asks
def classify(
    whom: Whom,
    task: TaskArgument,
    files: FilesArgument = None,
    text: TextOption = None,
    top: Annotated[int, typer.Option(min=1, max=100, help="Labels for each item, the likeliest first.")] = 1,
    neighbours: Annotated[int, typer.Option(min=0, max=100, help="Nearest examples to show for each.")] = 0,
    false_alarm_rate: Annotated[float | None, typer.Option(help="Instead of the task's.")] = None,
    json_: JsonOption = False,
) -> None:
    """Tell the labels of items, or that they are unknown; a bad one is named, and the others are done.

    Example: `headwater fewshot classify birds photo.jpg --top 3 --neighbours 3`
    """
    items, n_failed = items_of(files, text), 0
    uncertain = ""
    shown: Shown = {"top": top, "neighbours": neighbours, "with_items": neighbours > 0}  # for their notes
    if false_alarm_rate is not None:
        shown["false_alarm_rate"] = false_alarm_rate
    with whom.task(task, embeds=True) as there:
        if not whom.server:  # it has only begun to learn
            settle(there, items)
        for item, one in zip(items, there.iter_classifications(items, **shown), strict=True):
            n_failed += one.error is not None
            uncertain = uncertain or _uncertain(one)
            if json_:
                typer.echo(as_json({"item": str(item), **_facts(one)}))
            elif one.error is not None:
                err.print(f"[bold red]{escape(str(item))}:[/] {escape(str(one.error))}", soft_wrap=True)
            else:
                out.print(f"{item}: {_words(one)}", soft_wrap=True, markup=False)
    if uncertain and not json_:
        err.print(uncertain, soft_wrap=True)
    if n_failed:
        err.print(f"{n_failed} of {counted(len(items), 'item')} failed")
        raise typer.Exit(1)


@asks
def suggest(
    whom: Whom,
    task: TaskArgument,
    files: FilesArgument = None,
    text: TextOption = None,
    n: Annotated[int, typer.Option("-n", min=1, max=1000, help="How many.")] = 10,
    json_: JsonOption = False,
) -> None:
    """Tell which of these unlabelled items to label next: uncertain ones that are unlike each other.

    Example: `headwater fewshot suggest birds unlabelled/ -n 20`
    """
    items = items_of(files, text)
    with whom.task(task, embeds=True) as there:
        found = there.suggest(items, n)
    for one in found.items:
        if json_:
            typer.echo(as_json({"item": str(items[one.position]), **asdict(one)}))
        else:
            now = f"now {one.label}, " if one.label else ""
            out.print(f"{items[one.position]}: {now}uncertainty {one.uncertainty:.2f}", soft_wrap=True, markup=False)
    if not json_:
        err.print(f"by {found.reason}", soft_wrap=True, markup=False)
    for position, error in found.failures.items():
        err.print(f"[bold red]{escape(str(items[position]))}:[/] {escape(str(error))}", soft_wrap=True)
    if found.n_failed:
        err.print(f"{found.n_failed} of {counted(len(items), 'item')} failed")
        raise typer.Exit(1)


@asks
def audit(
    whom: Whom,
    task: TaskArgument,
    n: Annotated[int, typer.Option("-n", min=1, max=1000, help="Findings of each kind.")] = 10,
    json_: JsonOption = False,
) -> None:
    """Tell what in a task deserves a look: contradictions, near-duplicates, overlaps, classes with few examples.

    Example: `headwater fewshot audit birds`
    """
    with whom.task(task) as there:
        found = there.audit(n)
    if json_:
        typer.echo(as_json(found))
    else:
        _show_audit(task, found)


@asks
def evaluate(
    whom: Whom,
    task: TaskArgument,
    data: Annotated[
        Path,
        typer.Argument(
            metavar="LABELLED",
            help="A folder with a folder a label, or a `.csv`, `.jsonl` or `.parquet` with a label and a text or path. "
            "Labels that the task does not have are out of its scope.",
        ),
    ],
    out_of_scope: Annotated[str, typer.Option(help="A label of items of no class.")] = "",
    label_column: LabelColumnOption = "label",
    item_column: ItemColumnOption = None,
    json_: JsonOption = False,
) -> None:
    """Measure a task on labelled items that it was not taught, each number with its 95 % interval.

    Example: `headwater fewshot evaluate birds more-birds/ --out-of-scope other`
    """
    from headwater.fewshot_evaluation import measure
    from headwater.labelled import Columns, read_labelled

    labelled = read_labelled(data, columns=Columns(label_column, item_column))
    for note in labelled.notes:
        err.print(f"{data}: {note}", soft_wrap=True, markup=False)
    with whom.task(task, embeds=True) as there, Bar(console=err, disable=not err.is_terminal) as bar:
        shown = bar.add_task("classifying", total=len(labelled.items))
        settle(there, labelled.items)
        told = there.classify(labelled.items, neighbours=0, progress=lambda done, _: bar.update(shown, completed=done))
        good = [item for item, one in zip(labelled.items, told, strict=True) if one.error is None][:1]
        answers = {rate: _answer(there, good, false_alarm_rate=rate) for rate in RATES}
        classes = set(there.info().classes)
    for name, one in zip(labelled.names, told, strict=True):
        if one.error is not None:
            err.print(f"[bold red]{escape(name)}:[/] {escape(str(one.error))}", soft_wrap=True)
    labels = [str(label) for label in labelled.labels]
    thresholds = {rate: one.threshold for rate, one in answers.items() if one is not None}
    measures = measure(labels, told, classes, thresholds=thresholds, out_of_scope=out_of_scope)
    answer = next(one.answer for one in told if one.error is None)
    if json_:
        typer.echo(as_json({"task": task, **asdict(answer), **asdict(measures)}))
    else:
        _show_measures(task, measures, answer)
    if measures.n_failed:
        err.print(f"{measures.n_failed} of {counted(len(told), 'item')} failed and were left out")
        raise typer.Exit(1)


def settle(task: "FewShotTask", items: Sequence[Any]) -> None:
    """Wait until what is being learnt in the background answers."""
    deadline = time.monotonic() + SETTLING_S
    while (answer := _answer(task, items)) and answer.refining and time.monotonic() < deadline:
        time.sleep(LOOK_S)


def _answer(task: "FewShotTask", items: Sequence[Any], **shown: Any) -> "TaskAnswer | None":
    """Return what answers about the first item that can be asked about."""
    told = (task.classify([item], neighbours=0, **shown)[0] for item in items)
    return next((one.answer for one in told if one.error is None), None)


def _uncertain(one: "Classification") -> str:
    """Return why probabilities and *unknown* deserve little trust yet, or nothing."""
    if one.error is not None or not one.answer.uncalibrated:
        return ""
    threshold = "nothing is called unknown" if one.answer.threshold is None else "what is unknown is a rough guess"
    return f"uncalibrated: a class has fewer than 3 examples; until then {threshold}"


def _words(one: "Classification") -> str:
    shown = ", ".join(f"{ranked.label} {ranked.probability:.3f}" for ranked in one.ranking)
    near = ", ".join(f"{other.label} {other.similarity:.3f} ({other.note or other.id})" for other in one.neighbours)
    return (f"unknown ({shown})" if one.unknown else shown) + (f"; near {near}" if near else "")


def _facts(one: "Classification") -> dict[str, Any]:
    if one.error is not None:
        return {"error": str(one.error)}
    neighbours = [
        {"id": other.id, "label": other.label, "similarity": other.similarity, "note": other.note}
        for other in one.neighbours
    ]
    return {
        "label": one.label,
        "unknown": one.unknown,
        "score": one.score,
        "ranking": [asdict(ranked) for ranked in one.ranking],
        "neighbours": neighbours,
        **asdict(one.answer),
    }


def _show_audit(task: str, found: "AuditReport") -> None:
    accuracy = found.accuracy
    if accuracy is None:
        out.print("no class has two examples, so that nothing can be left out and named by the others")
    else:
        interval = f"{accuracy.accuracy:.3f} ({accuracy.low:.3f} to {accuracy.high:.3f})"
        out.print(
            f"task {task}, version {found.version}: {interval} of {accuracy.n_examples:,} examples are named rightly "
            f"by the others, by {accuracy.method}",
            soft_wrap=True,
            markup=False,
        )
    _show(
        "contradict their neighbours",
        found.n_contradictions,
        ("example", "label", "the others say", "probability"),
        [(one.id, one.label, one.suggested, f"{one.suggested_probability:.3f}") for one in found.contradictions],
    )
    _show(
        "pairs are almost alike",
        found.n_duplicates,
        ("example", "label", "other", "its label", "cosine"),
        [(one.id, one.label, one.other_id, one.other_label, f"{one.similarity:.4f}") for one in found.duplicates],
    )
    _show(
        "pairs of classes overlap",
        found.n_overlaps,
        ("class", "other", "taken for each other"),
        [(one.label, one.other_label, f"{one.confused:.1%}") for one in found.overlaps],
    )
    _show(
        "classes have few examples",
        found.n_small_classes,
        ("class", "examples"),
        [(label, f"{n:,}") for label, n in found.small_classes.items()],
    )


def _show(what: str, n: int, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    out.print(f"{n:,} {what}" + (f"; the first {len(rows)}:" if 0 < len(rows) < n else ":" if rows else ""))
    if rows:
        table = Table(*columns)
        for row in rows:
            table.add_row(*map(escape, row))
        out.print(table)


def _show_measures(task: str, measures: "TaskMeasures", answer: "TaskAnswer") -> None:
    from headwater.evaluation import few

    say = [
        f"task {task}, version {answer.version}, {answer.method} ({answer.reason})",
        f"{counted(measures.n_in_scope, 'item')} of its classes, {measures.n_out_of_scope:,} of none",
    ]
    for words, one in (
        ("accuracy, whether called unknown or not", measures.accuracy),
        ("in-scope accuracy: right, and not called unknown", measures.in_scope_accuracy),
        ("false alarms: in scope, and called unknown", measures.false_alarms),
        ("out-of-scope recall: called unknown", measures.out_of_scope_recall),
    ):
        if one is not None:
            say.append(f"  {words}: {one.value:.4f} ({one.low:.4f} to {one.high:.4f})")
    if measures.auroc is not None:
        say.append(f"  AUROC of the score: {measures.auroc:.4f}; passing where 95 % in scope do: {measures.fpr95:.4f}")
    if measures.strange:
        say.append(f"  labels that it does not have, out of its scope: {few(measures.strange)}")
    if answer.uncalibrated:
        say.append("  uncalibrated: a class has fewer than 3 examples, and the threshold is a stated prior")
    out.print("\n".join(say), soft_wrap=True, markup=False)
    table = Table("false-alarm rate wanted", "found", "in-scope accuracy", "out-of-scope recall")
    for point in measures.points:
        recall = "" if point.out_of_scope_recall is None else f"{point.out_of_scope_recall:.4f}"
        table.add_row(
            f"{point.false_alarm_rate:g}", f"{point.false_alarms:.4f}", f"{point.in_scope_accuracy:.4f}", recall
        )
    out.print(table)
