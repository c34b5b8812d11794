"""The demo itself: a server in a process of its own, items through the client, two classifiers, a second pass."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from classifiers.evaluate import evaluate_episodes
from classifiers.fewshot import NearestClassMean
from classifiers.heads import LogisticHead
from extractor.home import backbones_folder
from extractor.outcome import Embedding, stack
from extractor.shelf import installed
from headwater.client import Client
from headwater.demo.items import Labelled, digits, messages
from headwater.demo.picture import save_picture
from headwater.errors import OutputNotWritable
from headwater.process import serving

BACKBONES = ("efficientnet-lite0", "minilm-l6")
SHOTS = 5
QUERIES = 15  # of each class, or as many as there are
EPISODES = 20
FOLDS = 5


@dataclass(frozen=True)
class Pass:
    """One way of all items through the service.

    Parameters
    ----------
    embeddings : ndarray of shape (n, dim), float32
    seconds : float
    n_cached : int
        Items that the cache answered.
    """

    embeddings: Embedding
    seconds: float
    n_cached: int

    @property
    def items_per_s(self) -> float:
        """Items a second."""
        return len(self.embeddings) / self.seconds


@dataclass(frozen=True)
class Scores:
    """What two classifiers make of the embeddings."""

    few_shot: str
    head: str
    predictions: NDArray[np.str_]


def run(folder: Path, *, console: Console, export: Callable[[str], object]) -> None:
    """Run the demo.

    Parameters
    ----------
    folder : Path
        Where the picture and the embeddings go.
    console : Console
        Where the table goes.
    export : callable
        Makes the backbone of a name that is not installed yet.

    Raises
    ------
    OutputNotWritable
        The folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputNotWritable(f"cannot write to {folder}: {error.strerror}; choose another --out") from None
    there = {path.name for path in installed()}
    for name in BACKBONES:
        if name not in there:
            export(name)
    sets = {BACKBONES[0]: ("handwritten digits", digits()), BACKBONES[1]: ("support messages", messages())}
    console.print("starting [bold]headwater serve[/] in a process of its own …")
    with serving(*BACKBONES, "--cache", "memory") as server, Client(server.target) as client:
        console.print(f"it listens at {server.target}")
        first = {name: _extract(client, name, what, data.items, console) for name, (what, data) in sets.items()}
        again = {
            name: _extract(client, name, f"{what}, again", data.items, console) for name, (what, data) in sets.items()
        }
    scores = {}
    for name, (what, data) in sets.items():
        with console.status(f"learning from {what} …"):
            scores[name] = _learn(first[name].embeddings, data)
            np.save(folder / f"{name}.npy", first[name].embeddings)
    with console.status("drawing …"):
        name = BACKBONES[0]
        picture = folder / "demo.png"
        title = (
            f"{len(first[name].embeddings):,} handwritten digits, {name} (trained on photographs), logistic regression"
        )
        save_picture(picture, first[name].embeddings, sets[name][1].labels, scores[name].predictions, title=title)
    console.print(_table(sets, first, again, scores))
    console.print(
        f"picture      {picture}\nembeddings   {folder}/*.npy\nbackbones    {backbones_folder()}", soft_wrap=True
    )


def _extract(client: Client, backbone: str, what: str, items: list[bytes], console: Console) -> Pass:
    """Send all items through the client and watch them come back."""
    columns = (TextColumn("{task.description:32}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        begun = time.perf_counter()
        outcomes = list(
            progress.track(client.iter_outcomes(items, backbone=backbone), total=len(items), description=what)
        )
        seconds = time.perf_counter() - begun
    return Pass(stack(outcomes, client.describe(backbone).dim), seconds, sum(one.cached for one in outcomes))


def _learn(embeddings: Embedding, data: Labelled) -> Scores:
    """Score a few-shot classifier over episodes, and a head by cross-validation."""
    from sklearn.metrics import accuracy_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    classes, counts = np.unique(data.labels, return_counts=True)
    few = evaluate_episodes(
        NearestClassMean(),
        embeddings,
        data.labels,
        way=len(classes),
        shots=SHOTS,
        queries=min(QUERIES, counts.min() - SHOTS),
        n_episodes=EPISODES,
        random_state=0,
    )
    chosen = LogisticHead(random_state=0).fit(embeddings, data.labels).C_
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    predictions = cross_val_predict(LogisticHead(Cs=(chosen,)), embeddings, data.labels, cv=folds)
    return Scores(
        few_shot=f"{100 * few.mean:.1f} ± {100 * few.interval:.1f} %, {len(classes)}-way",
        head=f"{100 * accuracy_score(data.labels, predictions):.1f} %",
        predictions=predictions,
    )


def _table(
    sets: dict[str, tuple[str, Labelled]], first: dict[str, Pass], again: dict[str, Pass], scores: dict[str, Scores]
) -> Table:
    table = Table(title="Headwater: what one frozen network each made of it", title_style="bold")
    table.add_column("")
    for name, (what, data) in sets.items():
        table.add_column(f"{len(data.items):,} {what}\n{name}", justify="right")
    rows: Iterable[tuple[str, Callable[[str], str]]] = (
        ("embedding", lambda name: f"{first[name].embeddings.shape[1]} × float32"),
        ("first pass", lambda name: _speed(first[name])),
        ("second pass", lambda name: _speed(again[name])),
        ("… from the cache", lambda name: f"{again[name].n_cached:,} of {len(sets[name][1].items):,}"),
        ("a repeat costs", lambda name: f"1/{first[name].seconds / again[name].seconds:.0f} of it"),
        (f"{SHOTS}-shot, {EPISODES} episodes", lambda name: scores[name].few_shot),
        (f"head, {FOLDS}-fold", lambda name: scores[name].head),
    )
    for title, cell in rows:
        table.add_row(title, *(cell(name) for name in sets))
    return table


def _speed(one: Pass) -> str:
    return f"{one.items_per_s:,.0f} items/s, {1000 / one.items_per_s:.2f} ms"
