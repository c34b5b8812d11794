"""`headwater dupes`: a dump -> groups of near-duplicates; or what one dump or split has of another, nearly."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import Progress as Bar

from headwater.commands.counted import counted
from headwater.commands.dumped import DumpArgument, facts_of, name_of, opened, show, write_json
from headwater.commands.given import given, refuse
from headwater.console import err, out

if TYPE_CHECKING:
    from classifiers.duplicates import Progress
    from classifiers.embedding_set import EmbeddingSet

SHOWN_COPIES = 5  # of a group
SPLIT, TRAIN = "split", "train"
OF_SPLITS = ("--split-column", "--train-split")


def dupes(
    context: typer.Context,
    dump: DumpArgument,
    train: Annotated[
        Path | None,
        typer.Argument(metavar="TRAIN", help="Another dump: which items of OUT are nearly one of its items?"),
    ] = None,
    threshold: Annotated[float, typer.Option(min=0.0, max=1.0, help="The least cosine of near-duplicates.")] = 0.95,
    split_column: Annotated[
        str, typer.Option(help="The carried column that tells training items from others; looked at where it is there.")
    ] = SPLIT,
    train_split: Annotated[str, typer.Option(help="What that column says of training items.")] = TRAIN,
    top: Annotated[int, typer.Option(min=1, help="How many groups, and leaks, are shown.")] = 20,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="An object a line, for programs: every group, its first item and `copies`; every leak, `item` and "
            "the training item that is nearest, `train`.",
        ),
    ] = False,
) -> None:
    """Find near-duplicates, and what has leaked from training items into others: no pair is missed.

    Ten times as many items take twenty to a hundred times as long: the less they have in common, the longer. A group is
    its first item with all later ones that are near it, so who keeps the first items has no two that are near each
    other.

    Example: `headwater dupes embedded/ --threshold 0.97`
    """
    if as_json:
        refuse(context, "--top", because="--json gives all")
    if train is not None:
        refuse(context, *OF_SPLITS, because="leaks are looked for between OUT and TRAIN")
        if train.resolve() == dump.resolve():
            raise typer.BadParameter("OUT and TRAIN are one dump; name another, or leave TRAIN away")
        found = opened(dump)
        _tell_leaks(found, opened(train), f"{dump} and {train}", threshold, top, as_json=as_json)
        return
    found = opened(dump)
    asked = any(one in given(context) for one in OF_SPLITS)
    there = asked or split_column in found.columns
    sides = _sides(found, split_column, train_split, asked=asked) if there else None
    _tell_groups(found, threshold, top, as_json=as_json)
    if sides is not None:
        _tell_leaks(*sides, f"the splits of {split_column!r}", threshold, top, as_json=as_json)


def _tell_groups(found: "EmbeddingSet", threshold: float, top: int, *, as_json: bool) -> None:
    from classifiers.duplicates import duplicate_groups

    with _bar("looking for near-duplicates") as progress:
        copies = duplicate_groups(found.X, least_cosine=threshold, progress=progress)
    cosines = dict(zip(copies.rows.tolist(), copies.cosines.tolist(), strict=True))
    groups = [group.tolist() for group in copies.groups()]
    if as_json:
        for group in groups:
            near = [{**facts_of(found, row), "cosine": cosines[row]} for row in group[1:]]
            write_json({"first": facts_of(found, group[0]), "copies": near})
        return
    labels, differing = found.y, 0
    for group in groups:
        differing += len({labels[row] for row in group if labels[row] is not None}) > 1
    out.print(
        f"{len(copies.rows):,} of {len(found):,} items are near-duplicates of a former one (cosine {threshold:g} or "
        f"more), in {counted(len(groups), 'group')}; in {differing:,} of them labels differ",
        soft_wrap=True,
    )
    if groups:
        show(("items", "cosine", "label", "first of them, and others"), _rows(found, groups[:top], cosines))
    _tell_more(len(groups), top, "groups")


def _rows(found: "EmbeddingSet", groups: list[list[int]], cosines: dict[int, float]) -> Iterator[tuple[object, ...]]:
    for group in groups:
        for place, row in enumerate(group[: 1 + SHOWN_COPIES]):
            facts = facts_of(found, row)
            near = f"{cosines[row]:.4f}" if place else ""
            yield "" if place else f"{len(group):,}", near, facts.get("label"), name_of(facts)
        if len(group) > 1 + SHOWN_COPIES:
            yield "", "", "", f"and {len(group) - 1 - SHOWN_COPIES:,} more"


def _sides(
    found: "EmbeddingSet", column: str, train_split: str, *, asked: bool
) -> "tuple[EmbeddingSet, EmbeddingSet] | None":
    """Return the items that are not for training, and those that are; None where all are of one side, unless asked."""
    from headwater.errors import DataInvalid

    own = found.column(column).tolist()
    splits = [str(one) for one in own if one is not None]
    if None in own:
        err.print(f"{counted(own.count(None), 'item')} without {column!r}, so on neither side", markup=False)
        found = found.at([row for row, one in enumerate(own) if one is not None])
    is_train = [one == train_split for one in splits]
    if not any(is_train) or all(is_train):
        told = (
            f"the column {column!r} has {', '.join(map(repr, sorted(set(splits))[:10])) or 'nothing'}, and leaks are "
            f"between {train_split!r} and others; name what training items have with --train-split"
        )
        if asked:
            raise DataInvalid(told)
        err.print(told, soft_wrap=True, markup=False)
        return None
    others = found.at([row for row, one in enumerate(is_train) if not one])
    return others, found.at([row for row, one in enumerate(is_train) if one])


def _tell_leaks(
    others: "EmbeddingSet", learnt: "EmbeddingSet", between: str, threshold: float, top: int, *, as_json: bool
) -> None:
    from classifiers.duplicates import leaks
    from classifiers.embedding_set import check_same_origin

    check_same_origin(others, learnt)
    with _bar("looking for leaks") as progress:
        leaked = leaks(others.X, learnt.X, least_cosine=threshold, progress=progress)
    pairs = zip(leaked.rows.tolist(), leaked.others.tolist(), leaked.cosines.tolist(), strict=True)
    found = [(facts_of(others, row), facts_of(learnt, other), cosine) for row, other, cosine in pairs]
    if as_json:
        for item, near, cosine in found:
            write_json({"item": item, "train": near, "cosine": cosine})
        return
    differing = sum(len({item["label"], near["label"]} - {None}) > 1 for item, near, _ in found)
    out.print(
        f"between {between}: {len(found):,} of {len(others):,} items ({len(found) / len(others):.1%}) are nearly one "
        f"of {len(learnt):,} training items, {differing:,} of them under another label"
        + ("; what is measured on them is too good to be true" if found else ""),
        soft_wrap=True,
        markup=False,
    )
    if found:
        rows = [
            (f"{cosine:.4f}", _labels(item.get("label"), near.get("label")), name_of(item), name_of(near))
            for item, near, cosine in found[:top]
        ]
        show(("cosine", "label", "item", "training item"), rows)
    _tell_more(len(found), top, "leaks")


def _labels(one: str | None, other: str | None) -> str:
    return one or "" if one == other else f"{one or 'none'}, there {other or 'none'}"


def _tell_more(n: int, top: int, what: str) -> None:
    if n > top:
        out.print(f"and {n - top:,} more {what}; --top shows more, --json all")


@contextmanager
def _bar(description: str) -> "Iterator[Progress]":
    with Bar(console=err, disable=not err.is_terminal) as bar:
        task = bar.add_task(description, total=None)

        def progress(done: int, total: int) -> Any:
            bar.update(task, completed=done, total=total)

        yield progress
