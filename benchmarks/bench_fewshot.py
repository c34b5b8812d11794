"""How often few-shot methods are right, what `auto` loses beside the best, and whether it knows what is unknown.

Methods: on handwritten digits (scikit-learn's pixels), clothing and Banking77, 5-way and all-way, with 1, 2, 5 and 10
shots: mean accuracy over episodes with its 95 % interval. Five-way episodes have 15 queries of each class; in all-way
ones of a set with a test split, all of that is asked. Beside them brute-force scikit-learn with its own defaults.
Unknown: CLINC150, 10 shots of each of the 150 intents, its test split in scope and out of it; ten draws.
Draws: `auto` on all 77 classes of Banking77, ten draws of 5 and of 10 shots.
Zero-shot: Banking77 with the names of its classes, beside 0, 1, 2 and 5 shots and without; how a name counts was
learnt on CLINC150.
Rule: for each of the four sets, what the three others choose (gamma and C of kernel logistic regression, the method of
one shot, the score for unknown): that with the least regret in their worst row. Classes that are held out stand for
unknown ones; CLINC150's out-of-scope queries are not looked at.
What is measured is written row by row, so that a stop loses nothing.
Run: python benchmarks/bench_fewshot.py [--data FOLDER] [--embedded FOLDER] [--only PART ...] [--episodes N]
     [--all-way N] [--sets SET ...]
"""

import argparse
import time
import warnings
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from backbone import ensure
from joblib import Parallel, delayed
from labelled_sets import DEFAULT, OUT_OF_SCOPE, banking77, clinc150, clothing
from record import keep_result, write_result
from scipy.special import logsumexp
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from threadpoolctl import threadpool_limits

from classifiers.adaptive import METHODS, AdaptiveClassifier
from classifiers.embeddings import unit_length
from classifiers.evaluate import EpisodeScores, episodes
from classifiers.measures import open_set
from classifiers.shot_heads import KernelLogistic
from headwater import Client
from headwater.process import serving

SHOTS = (1, 2, 5, 10)
QUERIES = 15
DRAWS = 10
SETS = {
    "clothing": ("efficientnet-lite0", clothing),
    "banking77": ("minilm-l6", banking77),
    "clinc150": ("minilm-l6", clinc150),
}
BASELINES: dict[str, Callable[[], Any]] = {
    "sklearn 1-NN": lambda: KNeighborsClassifier(1),
    "sklearn centroid": NearestCentroid,
    "sklearn logistic": lambda: LogisticRegression(max_iter=500),
}
GRID = {
    f"gamma {gamma}, C {C}": KernelLogistic(gamma=gamma, C=C) for gamma, C in product((0.1, 0.3, 0.5, 1), (3, 10, 30))
}
CANDIDATES: dict[str, tuple[str, ...]] = {
    "method of 1 shot": tuple(METHODS),
    "gamma and C": tuple(GRID),
    "score of unknown": ("largest score", "energy"),
}
SHIPS = {"method of 1 shot": "class-mean", "gamma and C": "gamma 0.5, C 10", "score of unknown": "largest score"}

Row = dict[str, Any]


class Embedded(NamedTuple):
    """X (n, dim) float32 and y (n,) of two splits, and what is of none of the classes; digits have no test split."""

    X: np.ndarray
    y: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray
    X_foreign: np.ndarray


def embedded(name: str, options: argparse.Namespace) -> Embedded:
    """Return a set from the folder of embeddings, or through the service, and keep it there."""
    if name == "digits":
        X, y = load_digits(return_X_y=True)
        return Embedded(X.astype(np.float32), y, X[:0], y[:0], X[:0])
    backbone, read = SETS[name]
    kept = options.embedded / f"{name}.npz" if options.embedded else None
    if kept and kept.exists():
        with np.load(kept) as arrays:
            return Embedded(**arrays)
    splits = read(options.data)
    with serving(ensure(backbone), "--cache", "off") as server, Client(server.target) as client:
        X, X_test = (client.extract(splits[one].items) for one in ("train", "test"))
        X_foreign = client.extract(splits["oos_test"].items) if "oos_test" in splits else X[:0]
    found = Embedded(X, splits["train"].labels, X_test, splits["test"].labels, X_foreign)
    if kept:
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.savez(kept, **found._asdict())
    return found


def tasks(data: Embedded, *, way: int, shots: int, n: int, seed: int = 0) -> Iterator[tuple[np.ndarray, ...]]:
    """Yield support and query of each episode: X, y, X_query, y_query."""
    whole = way == len(np.unique(data.y)) and len(data.y_test)
    queries = 1 if whole else QUERIES
    for support, query in episodes(data.y, way=way, shots=shots, queries=queries, n_episodes=n, random_state=seed):
        asked = (data.X_test, data.y_test) if whole else (data.X[query], data.y[query])
        yield data.X[support], data.y[support], *asked


def accuracy(model: Any, X: np.ndarray, y: np.ndarray, X_query: np.ndarray, y_query: np.ndarray) -> float:
    """Return the share of queries that a model learnt on the support names rightly."""
    with warnings.catch_warnings():  # scikit-learn's centroids warn of a class of one, its logistic of one shot each
        warnings.simplefilter("ignore")
        return float(np.mean(model.fit(X, y).predict(X_query) == y_query))


def compared(models: dict[str, Callable[[], Any]], drawn: Iterator[tuple[np.ndarray, ...]]) -> dict[str, EpisodeScores]:
    """Return accuracies by model over the same episodes."""
    found: dict[str, list[float]] = {name: [] for name in models}
    for X, y, X_query, y_query in drawn:
        unit, asked = unit_length(X), unit_length(X_query)
        for name, make in models.items():
            found[name].append(accuracy(make(), unit, y, asked, y_query))
    return {name: EpisodeScores(np.array(one)) for name, one in found.items()}


def ways(data: Embedded) -> tuple[int, int]:
    """Return 5 and all."""
    return 5, len(np.unique(data.y))


def method_rows(options: argparse.Namespace) -> Iterator[Row]:
    """Compare `auto`, every method and scikit-learn on each set."""
    models = {"auto": AdaptiveClassifier, **METHODS, **BASELINES}
    for name in options.sets:
        data = embedded(name, options)
        for way, shots in product(ways(data), SHOTS):
            begun = time.perf_counter()
            drawn = tasks(
                data, way=way, shots=shots, n=options.episodes if way == 5 else options.all_way or options.episodes
            )
            scores = compared(models, drawn)
            best = max(METHODS, key=lambda one: scores[one].mean)
            cells = {one: f"{100 * found.mean:.2f} ± {100 * found.interval:.2f}" for one, found in scores.items()}
            lost = 100 * (scores[best].mean - scores["auto"].mean)
            row = {"set": name, "way": way, "shots": shots, **cells, "best": best, "auto loses": f"{lost:.2f}"}
            print(row, f"{time.perf_counter() - begun:.0f} s", flush=True)
            yield row


def unknown_rows(options: argparse.Namespace) -> Iterator[Row]:
    """Measure `auto` on CLINC150 at the default threshold, over draws."""
    data, found = embedded("clinc150", options), []
    drawn = tasks(data, way=150, shots=10, n=DRAWS, seed=1)
    for number, (X, y, X_query, y_query) in enumerate(drawn, 1):
        begun = time.perf_counter()
        model = AdaptiveClassifier().fit(X, y)
        learnt = time.perf_counter() - begun
        queries = np.concatenate([X_query, data.X_foreign])
        known = np.arange(len(queries)) < len(X_query)
        right = known & (model.predict(queries) == np.concatenate([y_query, np.full(len(data.X_foreign), "")]))
        score = model.knowing(queries)
        measures = open_set(known, right, score < model.threshold_, score, n_resamples=1)
        shares = (measures.auroc, measures.in_scope_accuracy.value, measures.out_of_scope_recall.value)
        found.append((*shares, (score < model.threshold_)[known].mean()))
        yield unknown_row(f"draw {number} ({model.chosen_})", np.array(found[-1]), f"{learnt:.1f}")
    yield unknown_row("mean", np.mean(found, axis=0), "")
    yield {"CLINC150, 10 shots": "goal", "AUROC": "≥ 95", "in scope": "≥ 85", "recall": "≥ 75", "alarms": "5", "s": ""}


def unknown_row(what: str, shares: np.ndarray, seconds: str) -> Row:
    """Return one line of the table."""
    auroc, accuracy, recall, alarms = (f"{100 * one:.2f}" for one in shares)
    return {
        "CLINC150, 10 shots": what, "AUROC": auroc, "in scope": accuracy, "recall": recall, "alarms": alarms,
        "s": seconds,
    }  # fmt: skip


def draw_rows(options: argparse.Namespace) -> Iterator[Row]:
    """Measure `auto` on all classes of Banking77, over draws."""
    data = embedded("banking77", options)
    for shots, goal in ((5, 78.5), (10, 84.5)):
        drawn = tasks(data, way=77, shots=shots, n=DRAWS, seed=4)
        found = compared({"auto": AdaptiveClassifier}, drawn)["auto"]
        shares = {"mean": found.mean, "least": found.accuracies.min(), "most": found.accuracies.max()}
        cells = {name: f"{100 * share:.2f}" for name, share in shares.items()}
        yield {"Banking77, shots": shots, "draws": DRAWS, **cells, "goal": f"≥ {goal}"}


def rule_rows(options: argparse.Namespace) -> Iterator[Row]:
    """Tell of each set what the three others choose, and what that loses on it; and what is shipped."""
    n = max(options.episodes // 20, 3)
    names = ("digits", *SETS)
    measured = dict(
        zip(names, Parallel(2)(delayed(rule_scores)(embedded(one, options), n) for one in names), strict=True)
    )
    for what, ships in SHIPS.items():
        for told in names:
            others = worst_losses([row for name in names if name != told for row in measured[name][what]])
            own = worst_losses(measured[told][what])
            chosen = min(CANDIDATES[what], key=others.__getitem__)
            yield {
                "reported on": told, "what": what, "the others choose": chosen,
                "there": f"{100 * others[chosen]:.2f}", "here": f"{100 * own[chosen]:.2f}",
                "ships": ships, "ships there": f"{100 * others[ships]:.2f}", "ships here": f"{100 * own[ships]:.2f}",
            }  # fmt: skip


def rule_scores(data: Embedded, n: int) -> dict[str, list[dict[str, float]]]:
    """Return by what is to be chosen, for each row, how good each candidate is and what it is compared with."""
    models = {**METHODS, **{name: lambda one=one: one for name, one in GRID.items()}}
    found: dict[str, list[dict[str, float]]] = {what: [] for what in SHIPS}
    for shots, way in product(SHOTS, ways(data)):
        few = n * 10 if way == 5 else n
        scores = compared(models, tasks(data, way=way, shots=shots, n=few, seed=2))
        found["method of 1 shot" if shots == 1 else "gamma and C"].append({k: one.mean for k, one in scores.items()})
    found["score of unknown"] = [unknown_scores(data, shots, n) for shots in SHOTS[1:]]
    return found


def worst_losses(rows: list[dict[str, float]]) -> dict[str, float]:
    """Return of each candidate how much it loses beside the best, where it loses most."""
    return {name: max(max(row.values()) - row[name] for row in rows) for name in rows[0]}


def unknown_scores(data: Embedded, shots: int, n: int) -> dict[str, float]:
    """Return the AUROC of classes that are held out, by the largest score and by the energy of what `auto` takes."""
    random, classes, found = np.random.default_rng(3), np.unique(data.y), []
    for _ in range(n):
        known = random.choice(classes, round(0.7 * len(classes)), replace=False)
        ours = np.isin(data.y, known)
        part = data._replace(X=data.X[ours], y=data.y[ours], X_test=data.X_test[:0], y_test=data.y_test[:0])
        X, y, X_query, _ = next(tasks(part, way=len(known), shots=shots, n=1, seed=int(random.integers(1 << 31))))
        both = np.concatenate([X_query, data.X[~ours]])
        inside = np.arange(len(both)) < len(X_query)
        scores = KernelLogistic().fit(X, y).scores(both)
        of = (scores.max(axis=1), logsumexp(scores, axis=1))
        found.append([open_set(inside, inside, ~inside, one, n_resamples=1).auroc for one in of])
    return dict(zip(CANDIDATES["score of unknown"], np.mean(np.array(found, float), axis=0).tolist(), strict=True))


def zero_shot_rows(options: argparse.Namespace) -> Iterator[Row]:
    """Compare `auto` without and with the classes' names, of 5 classes and of all."""
    for name, role in (("banking77", "reported on"), ("clinc150", "learnt on")):
        data, vectors = embedded(name, options), name_vectors(name, options)
        for way, shots in product(ways(data), (0, 1, 2, 5)):
            n = options.episodes if way == 5 else max(options.episodes // 10, 3)
            scores = named_scores(tasks(data, way=way, shots=shots or 1, n=n, seed=5), vectors, examples=shots > 0)
            cells = {k: f"{100 * one.mean:.2f} ± {100 * one.interval:.2f}" for k, one in scores.items()}
            row = {"set": f"{name} ({role})", "way": way, "shots": shots, "episodes": n}
            yield {**row, "without names": cells.get("without", ""), "with names": cells["with"]}


def named_scores(
    drawn: Iterator[tuple[np.ndarray, ...]], vectors: dict[str, np.ndarray], *, examples: bool
) -> dict[str, EpisodeScores]:
    """Return accuracies without and with names; of names alone, where examples are left out."""
    found: dict[str, list[float]] = {}
    for X, y, X_query, y_query in drawn:
        names = {label: vectors[label] for label in np.unique(y).tolist()}
        if examples:
            found.setdefault("without", []).append(accuracy(AdaptiveClassifier(), X, y, X_query, y_query))
        rows = slice(None) if examples else slice(0)
        found.setdefault("with", []).append(
            accuracy(AdaptiveClassifier(names=names), X[rows], y[rows], X_query, y_query)
        )
    return {name: EpisodeScores(np.array(one)) for name, one in found.items()}


def name_vectors(name: str, options: argparse.Namespace) -> dict[str, np.ndarray]:
    """Return the embedded name of each class of a set of texts, from the folder or through the service."""
    kept = options.embedded / f"{name}_names.npz" if options.embedded else None
    if kept and kept.exists():
        with np.load(kept) as arrays:
            return dict(zip(arrays["labels"].tolist(), arrays["X"], strict=True))
    backbone, read = SETS[name]
    labels = np.unique(read(options.data)["train"].labels)
    labels = labels[labels != OUT_OF_SCOPE]
    with serving(ensure(backbone), "--cache", "off") as server, Client(server.target) as client:
        X = client.extract([label.replace("_", " ") for label in labels.tolist()])
    if kept:
        np.savez(kept, labels=labels, X=X)
    return dict(zip(labels.tolist(), X, strict=True))


PARTS = {
    "methods": method_rows,
    "unknown": unknown_rows,
    "draws": draw_rows,
    "rule": rule_rows,
    "zero-shot": zero_shot_rows,
}
NOTES = {
    "zero-shot": "accuracy of `auto` in %, mean over episodes ± 95 % interval; names: labels, underscores as spaces",
    "methods": "accuracy in %, mean over episodes ± 95 % interval; 'auto loses': beside the best of the six methods",
    "unknown": "in %, at the default false-alarm rate of 5 %; s: seconds of fit, one thread",
    "draws": "accuracy in %, of the test split",
    "rule": "regret of the worst row, points of accuracy or AUROC; there: on the three other sets, here: on this one",
}


def main() -> None:
    """Run the parts that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DEFAULT, help="the folder of the sets' folders")
    parser.add_argument(
        "--embedded", type=Path, help="a folder that keeps embeddings, so that a run need not make them"
    )
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--all-way", type=int, help="episodes of all classes, where they are to be fewer")
    parser.add_argument("--sets", nargs="+", choices=("digits", *SETS), default=["digits", "clothing", "banking77"])
    options = parser.parse_args()
    with threadpool_limits(1):  # small problems: threads would wait for each other
        for part in options.only:
            for suffix, some in runs(part, options):
                rows: list[Row] = []
                for row in PARTS[part](some):
                    rows.append(row)
                    keep_result(Path(__file__), rows, note=NOTES[part], suffix=suffix)
                write_result(Path(__file__), rows, note=NOTES[part], suffix=suffix)


def runs(part: str, options: argparse.Namespace) -> Iterator[tuple[str, argparse.Namespace]]:
    """Yield the files that a part fills, and options of each: that of the methods, which takes an hour, one a set."""
    if part != "methods":
        yield f"_{part}", options
        return
    for name in options.sets:
        yield f"_methods_{name}", argparse.Namespace(**{**vars(options), "sets": [name]})


if __name__ == "__main__":
    main()
