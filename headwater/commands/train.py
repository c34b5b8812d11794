"""`headwater train`: labelled files or texts -> a head, and a report of it."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.progress import Progress as Bar

from headwater.commands.access import CaOption, CertKeyOption, CertOption, KeyOption
from headwater.commands.counted import counted
from headwater.commands.embed import (
    CacheOption,
    GroupColumnOption,
    ItemColumnOption,
    LabelColumnOption,
    LabelsOption,
    RemoteOption,
    ServerOption,
    check_no_labels,
    dumped,
    embedded,
    embedder,
    required,
)
from headwater.commands.given import check_access, refuse, refuse_for_dump
from headwater.console import err, out

if TYPE_CHECKING:
    from classifiers.persist import Manifest
    from headwater.commands.embed import Embedded
    from headwater.labelled import Columns
    from headwater.shelf import Version
    from headwater.training import Options, Origin

SHOWN = {
    "single": ("accuracy", "balanced_accuracy", "macro_f1", "ece"),
    "multi": ("micro_f1", "macro_f1", "subset_accuracy", "ece"),
    "regression": ("r2", "mae", "rmse"),
}


def train(
    context: typer.Context,
    data: Annotated[
        Path,
        typer.Argument(
            help="A folder with a folder a label, or a `.csv`, `.jsonl` or `.parquet` with a label and a text or path; "
            "or a dump."
        ),
    ],
    name: Annotated[str, typer.Option(help="Of the head; where there is one of that name, this is its next version.")],
    backbone: Annotated[
        str, typer.Option(help="Name or folder; may be left out where there is only one.", envvar="HEADWATER_BACKBONE")
    ] = "",
    head: Annotated[
        str,
        typer.Option(
            help="`auto` chooses between logistic regression (of numbers, ridge) and an RBF SVM; or `logistic`, "
            "`linear-svm`, `rbf-svm`, `rbf-svm-pairs`, `ridge`, `knn`, `ncm`, `lda`, `network` (needs torch)."
        ),
    ] = "auto",
    kind: Annotated[
        str,
        typer.Option(
            help="`single` label, `multi` for several (in a CSV or a dump with `|` between), `regression` for numbers."
        ),
    ] = "single",
    validation: Annotated[
        Path | None, typer.Option(help="Like DATA: choose, calibrate and find the threshold on these, not by folds.")
    ] = None,
    test: Annotated[Path | None, typer.Option(help="Like DATA: measure on these.")] = None,
    balanced: Annotated[bool, typer.Option(help="Give all classes the same weight.")] = False,
    reject: Annotated[
        str,
        typer.Option(
            help="When to say unknown: `quantile` of held-out confidence, or of `energy`; `validation`, best for items "
            "in scope and out of it; `none`. `auto` is `validation` where some are out of scope, else `quantile`."
        ),
    ] = "auto",
    reject_rate: Annotated[float, typer.Option(help="Share of known items that may be called unknown.")] = 0.05,
    out_of_scope: Annotated[str, typer.Option(help="The label of items of no class, which tell when to reject.")] = "",
    label_column: LabelColumnOption = "label",
    item_column: ItemColumnOption = None,
    group_column: GroupColumnOption = None,
    labels: LabelsOption = None,
    report: Annotated[bool, typer.Option(help="Write a report for people, with pictures.")] = True,
    activate: Annotated[bool, typer.Option(help="Let the name alone mean this version from now on.")] = True,
    seed: Annotated[int, typer.Option(min=0, help="The same number gives the same head.")] = 0,
    remote: RemoteOption = False,
    server: ServerOption = None,
    cache: CacheOption = None,
    key: KeyOption = None,
    ca: CaOption = None,
    cert: CertOption = None,
    cert_key: CertKeyOption = None,
) -> None:
    """Train a head on labelled files or texts, keep it under HEADWATER_HOME/heads, and report what it can do.

    Example: `headwater train pets/ --name pets --backbone efficientnet-lite0`
    """
    from headwater.dumps import is_dump
    from headwater.labelled import Columns, read_labelled
    from headwater.shelf import check_name
    from headwater.training import Options, Origin

    check_name(name)
    columns = Columns(label_column, item_column, group_column)
    options = Options(
        head=head,
        kind=kind,
        class_weight="balanced" if balanced else None,
        reject=reject,
        reject_rate=reject_rate,
        out_of_scope=out_of_scope,
        seed=seed,
    )
    options.check()
    _check_rejecting(context, options)
    if not remote:
        _check_writable()
    sets = {what: data for what, data in (("train", data), ("validation", validation), ("test", test)) if data}
    access: dict[str, Any] = {"key": key, "ca": ca, "cert": cert, "cert_key": cert_key}
    if remote:
        check_access(context, required(server))
        check_no_labels(labels, data)
        _train_there(name, sets, columns, options, required(server), access, backbone=backbone, activate=activate)
        return
    if any(is_dump(path) for path in sets.values()):
        refuse_for_dump(context)
        found, origin = _dumped(sets, kind, columns, labels)
    else:
        check_no_labels(labels, data)
        check_access(context, server)
        labelled = {what: read_labelled(data, kind=kind, columns=columns) for what, data in sets.items()}
        for what, data_set in labelled.items():
            for note in data_set.notes:
                err.print(f"{sets[what]}: {note}", soft_wrap=True, markup=False)
        with embedder(backbone, server, access, cache) as source:
            found = {what: embedded(source, one) for what, one in labelled.items()}
        origin = Origin(backbone=source.name, fingerprint=source.fingerprint, items=found["train"].keys)
    examples = {what: one.examples for what, one in found.items()}
    version, manifest = _trained(name, examples, origin, options, report=report, activate=activate)
    _tell(version, manifest, examples["train"].labels)
    for one in found.values():
        if one.n_failed:
            n_items = one.n_failed + len(one.examples.labels)
            err.print(f"{one.n_failed} of {counted(n_items, 'item')} failed and were left out")


def _check_rejecting(context: typer.Context, options: "Options") -> None:
    """Refuse what would tell nothing of when to say unknown; raises BadParameter."""
    rule = "validation" if options.reject == "auto" and options.out_of_scope else options.reject
    if options.kind == "regression":
        refuse(context, "--reject", "--reject-rate", because="a regression calls nothing unknown")
    elif rule in ("validation", "none"):
        refuse(context, "--reject-rate", because=f"--reject {rule} goes by no share of known items")


def _check_writable() -> None:
    """Say that a head could not be kept before the work, and sweep what was left of a former one."""
    from extractor.home import heads_folder
    from headwater.errors import OutputNotWritable
    from headwater.shelf import staging, sweep

    sweep()
    try:
        with staging():
            pass
    except OSError as error:
        raise OutputNotWritable.by(error, heads_folder()) from None


def _train_there(
    name: str,
    sets: dict[str, Path],
    columns: "Columns",
    options: "Options",
    server: str,
    access: dict[str, Any],
    *,
    backbone: str,
    activate: bool,
) -> None:
    """Have a server embed, train and keep; what is left of a job when this ends, goes on there."""
    from headwater.client import Client
    from headwater.dumps import is_dump
    from headwater.errors import DataInvalid
    from headwater.labelled import read_labelled

    if is_dump(sets["train"]):
        raise DataInvalid(
            f"{sets['train']} is a dump, and a server is sent items; leave --remote away, or name the items"
        )
    if len(sets) > 1 or columns.group:
        raise DataInvalid("a server trains on DATA alone; leave --validation, --test and --group-column away")
    labelled = read_labelled(sets["train"], kind=options.kind, columns=columns)
    targets: Any = [list(label) if isinstance(label, tuple) else label for label in labelled.labels]
    choices: Any = {field: value for field, value in asdict(options).items() if value is not None}
    with Client(server, backbone=backbone, **access) as client, Bar(console=err, disable=not err.is_terminal) as bar:
        task = bar.add_task("sending", total=len(targets))
        job = client.train_head(
            name,
            labelled.items,
            targets,
            activate=activate,
            progress=lambda done, _: bar.update(task, completed=done),
            **choices,
        )
        for info in job:
            bar.update(task, completed=info.done, total=info.total or None, description=info.step or info.state)
        ended = job.result()
    learnt = counted(ended.examples, "example")
    out.print(f"head {ended.version}: {learnt}, {ended.backbone}", soft_wrap=True, markup=False)
    _tell_measures(options.kind, ended.metrics)
    out.print(f"use it: headwater predict {name} --remote --server {server} FILE …", soft_wrap=True, markup=False)
    sent = [name for i, name in enumerate(labelled.names) if i not in job.unsent]
    failures = {sent[i]: error for i, error in ended.failures.items()}
    for item, error in {**failures, **{labelled.names[i]: error for i, error in job.unsent.items()}}.items():
        err.print(f"[bold red]{escape(item)}:[/] {escape(str(error))}", soft_wrap=True)
    n_failed = ended.failed_items + len(job.unsent)
    if n_failed:
        err.print(f"{n_failed} of {counted(len(targets), 'item')} failed and were left out")


def _dumped(
    sets: dict[str, Path], kind: str, columns: "Columns", labels: Path | None
) -> "tuple[dict[str, Embedded], Origin]":
    """Read dumps, which have to be of one backbone."""
    from extractor.errors import BackboneChanged
    from headwater.dumps import is_dump
    from headwater.errors import DataInvalid
    from headwater.training import Origin

    for path in sets.values():
        if not path.exists():
            raise DataInvalid(f"there is no {path}; name a dump, as the others are")
        if not is_dump(path):
            raise DataInvalid(f"{path} is no dump of embeddings, and others are; give dumps alone, or none")
    read = {what: dumped(path, columns, labels, kind) for what, path in sets.items()}
    first = read["train"][1]
    for what, (_, facts) in read.items():
        if facts.fingerprint != first.fingerprint:
            raise BackboneChanged(
                f"the dump {sets[what]} is of {facts.fingerprint}, and {sets['train']} of {first.fingerprint}; "
                "dump both by one backbone"
            )
    keys = read["train"][0].keys
    origin = Origin(backbone=first.backbone, fingerprint=first.fingerprint, items=keys)
    return {what: one for what, (one, _) in read.items()}, origin


def _trained(
    name: str, examples: dict[str, Any], origin: Any, options: Any, *, report: bool, activate: bool
) -> "tuple[Version, Manifest]":
    """Train beside the shelf, and put the head on it when it is whole."""
    from extractor.home import heads_folder
    from headwater.errors import OutputNotWritable
    from headwater.shelf import activate as activate_version
    from headwater.shelf import add_version, staging
    from headwater.training import train_head

    learnt = examples.pop("train")
    try:
        with staging() as folder, Bar(console=err, disable=not err.is_terminal, transient=True) as bar:
            task = bar.add_task("training", total=None)
            manifest = train_head(
                folder,
                learnt,
                origin,
                options,
                **examples,
                name=name,
                report=report,
                progress=lambda done, total, what: bar.update(task, completed=done, total=total, description=what),
            )
            version = add_version(name, folder)
        if activate:
            activate_version(version)
    except OSError as error:
        raise OutputNotWritable.by(error, heads_folder()) from None
    examples["train"] = learnt
    return version, manifest


def _tell(version: "Version", manifest: "Manifest", labels: Any) -> None:
    from headwater.evaluation import parameters

    kind, options = manifest.options["kind"], manifest.options
    counts = Counter(one for label in labels for one in (label if kind == "multi" else (label,)))
    n_classes = len(counts) - (options["out_of_scope"] in counts)
    classes = "" if kind == "regression" else f"{counted(n_classes, 'class', 'classes')}, "
    estimator = f"{options['estimator']} {parameters(options['params'])}".rstrip()
    out.print(
        f"head {version}: {classes}{counted(len(labels), 'example')}, "
        f"{manifest.backbone or manifest.fingerprint}, {estimator}",
        soft_wrap=True,
        markup=False,
    )
    for note in options["notes"]:
        out.print(f"note: {note}", soft_wrap=True, markup=False)
    _tell_measures(kind, manifest.metrics)
    if (version.folder / "report.html").exists():
        out.print(f"report: {version.folder / 'report.html'}", soft_wrap=True, markup=False)
    out.print(f"use it: headwater predict {version.name} FILE …", markup=False)


def _tell_measures(kind: str, metrics: Mapping[str, float]) -> None:
    measured = "test" if "test_n" in metrics else "cv"
    where = f"{metrics.get(f'{measured}_n', 0):,.0f} {'test' if measured == 'test' else 'held-out'} examples"
    for name in SHOWN[kind]:
        value, low, high = (metrics.get(f"{measured}_{name}{end}") for end in ("", "_low", "_high"))
        if value is not None and low is not None and high is not None:
            title = name.replace("_", " ")
            out.print(f"{title} on {where}: {value:.3f} ({low:.3f} to {high:.3f})", soft_wrap=True, markup=False)
    recall = metrics.get("test_out_of_scope_recall")
    if recall is not None:
        out.print(f"unknown of {metrics['test_n_out_of_scope']:,.0f} test examples out of scope: {recall:.3f}")
    if not metrics:
        out.print("accuracy is not known: nothing could be held out; add more examples of each class")
