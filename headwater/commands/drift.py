"""`headwater drift`: two dumps -> whether the newer one is of another distribution, and which of its items are."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headwater.commands.dumped import JsonOption, facts_of, name_of, opened, show, write_json
from headwater.console import err, out

if TYPE_CHECKING:
    from classifiers.drift import Drift
    from classifiers.embedding_set import EmbeddingSet

LEVEL = 0.05
MANY_COPIES = 0.01  # of the items compared
CLEAR_AUC = 0.6  # below it a difference, however sure, is small


def drift(
    old: Annotated[Path, typer.Argument(metavar="A", help="A dump of what was known: of the training items, say.")],
    new: Annotated[Path, typer.Argument(metavar="B", help="A dump of newer items, by the same backbone.")],
    rows: Annotated[
        int,
        typer.Option(
            min=10,
            max=20_000,
            help="Of each side, compared at most, drawn at random: 2,000 take 64 MB of memory, 20,000 take 6.4 GB.",
        ),
    ] = 2000,
    permutations: Annotated[
        int, typer.Option(min=19, max=100_000, help="The least p-value is one over one more.")
    ] = 999,
    top: Annotated[int, typer.Option(min=1, max=100_000, help="How many items are shown.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="The same number gives the same answer.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Test whether newer items are of the distribution of known ones, and name those that tell most.

    The test is the maximum mean discrepancy with a permutation's p-value: without drift it is below 0.05 in 5 % of such
    comparisons. Items count as independent: many shots of one scene make it too sure.

    Example: `headwater drift last-month/ this-month/`
    """
    from classifiers.drift import drift as compare
    from classifiers.embedding_set import check_same_origin

    known, newer = opened(old), opened(new)
    check_same_origin(known, newer)
    with err.status("comparing …"):
        found = compare(known.X, newer.X, max_rows=rows, n_permutations=permutations, random_state=seed)
    moved = _items(known, newer, found, range(min(top, len(found.rows))))
    strangest = sorted(range(len(found.rows)), key=lambda place: (found.strange[place], found.cosines[place]))[:top]
    strange = _items(known, newer, found, strangest)
    if as_json:
        write_json({**_facts(found, len(known), len(newer)), "moved": moved, "strange": strange})
        return
    _tell(found, len(known), len(newer))
    columns = ("× as many like it", "cosine", "label", "item", "nearest known")
    out.print("\nwhere there is most more than there was:")
    show(columns, map(_row, moved), right=columns[:2])
    out.print("least like anything known:")
    show(columns, map(_row, strange), right=columns[:2])


def _items(
    known: "EmbeddingSet", newer: "EmbeddingSet", found: "Drift", places: "range | list[int]"
) -> list[dict[str, Any]]:
    return [
        {
            **facts_of(newer, int(found.rows[place])),
            "times": float(found.times[place]),
            "strange": float(found.strange[place]),
            "nearest": facts_of(known, int(found.nearest[place])),
            "cosine": float(found.cosines[place]),
        }
        for place in places
    ]


def _row(item: dict[str, Any]) -> tuple[object, ...]:
    return f"{item['times']:.2f}", f"{item['cosine']:.4f}", item.get("label"), name_of(item), name_of(item["nearest"])


def _facts(found: "Drift", n_known: int, n_newer: int) -> dict[str, Any]:
    return {
        "test": "maximum mean discrepancy, Gaussian kernel, permutations",
        "statistic": found.statistic,
        "p_value": found.p_value,
        "drift": found.p_value <= LEVEL,
        "auc": found.auc,
        "compared": list(found.n_compared),
        "copies": list(found.n_copies),
        "shared": found.n_shared,
        "rows": [n_known, n_newer],
        "scored": len(found.rows),
    }


def _tell(found: "Drift", n_known: int, n_newer: int) -> None:
    one, other = found.n_compared
    answer = "the new items have moved" if found.p_value <= LEVEL else "no drift is seen"
    out.print(
        f"{answer}: p = {found.p_value:.3g} (MMD² {found.statistic:.5f}, {one:,} of {n_known:,} known items against "
        f"{other:,} of {n_newer:,} newer ones)",
        soft_wrap=True,
    )
    _tell_of_copies(found)
    size = "which is little" if found.auc < CLEAR_AUC else "which is clear"
    chance = ", misled by what is on both sides" if _many_shared(found) else ", as by chance"
    chance = chance if found.p_value > LEVEL else f", {size}"
    out.print(f"a classifier tells new from known with AUC {found.auc:.3f} (0.5 is chance){chance}", soft_wrap=True)
    if len(found.rows) < n_newer:
        out.print(f"of the newer items {len(found.rows):,}, drawn at random, were looked at one by one")


def _tell_of_copies(found: "Drift") -> None:
    """Say what makes the p-value other than it seems, where it is more than chance brings about."""
    if _many_shared(found):
        out.print(
            f"{found.n_shared:,} of these newer items are known ones over again, which hides drift; compare the others",
            soft_wrap=True,
        )
    if any(n >= MANY_COPIES * of for n, of in zip(found.n_copies, found.n_compared, strict=True)):
        of_known, of_newer = found.n_copies
        out.print(
            f"{of_known:,} of these known items and {of_newer:,} of the newer ones are copies of another; where they "
            "come together, as frames of a film do, p is too small",
            soft_wrap=True,
        )


def _many_shared(found: "Drift") -> bool:
    return found.n_shared >= MANY_COPIES * found.n_compared[1]
