"""How many labels are saved by labelling what `suggest` chooses, and which mistakes `audit` finds.

Suggest: a teacher labels a pool, as many items at a time as there are classes (10 for clothing, 77 for Banking77),
chosen at random or by `suggest`, which hears each batch's labels before the next; the classifier is the one of a task,
`AdaptiveClassifier`. Each draw's pool is three quarters of the training split; accuracy is on the whole test split, and
gains are of the same draw. Budgets count labels, not labels of each class: nobody knows a label beforehand. Beside it,
a random draw that has exactly 10 of each class, which no teacher could make, by kernel logistic regression.
Audit: tasks of 50 examples a class with 5 % of the labels changed at random, and 2 % of the examples added again with
a little noise (5 % of their length), half of these under another label.
Run: python benchmarks/bench_suggest.py [--data FOLDER] [--embedded FOLDER] [--only suggest audit] [--draws N]
"""

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from bench_fewshot import Embedded, embedded
from labelled_sets import DEFAULT
from record import write_result
from threadpoolctl import threadpool_limits

from classifiers.adaptive import AdaptiveClassifier
from classifiers.audit import audit
from classifiers.embeddings import unit_length
from classifiers.evaluate import EpisodeScores
from classifiers.suggest import suggest

DRAWS = {"clothing": 20, "banking77": 10}  # the first has fewer labels, and its accuracy varies more
GOAL, SAVED = 10, 7  # labels a class; what random choice reaches with 10, is to be reached with 7
SHOWN = (1, 2, 3, 5, SAVED)
SHOTS = 50
CHANGED, AGAIN, NOISE = 0.05, 0.02, 0.05
COUNTS = ("contradictions / wrong", "seconds")  # not shares

Row = dict[str, Any]
Choice = Callable[[np.ndarray, int, np.ndarray | None, np.ndarray, int], np.ndarray]


def at_random(X: np.ndarray, n: int, probabilities: np.ndarray | None, X_known: np.ndarray, seed: int) -> np.ndarray:
    """Choose any."""
    return np.random.default_rng((seed, len(X_known))).choice(len(X), n, replace=False)


def suggested(X: np.ndarray, n: int, probabilities: np.ndarray | None, X_known: np.ndarray, seed: int) -> np.ndarray:
    """Choose what `suggest` does."""
    return suggest(X, n, probabilities=probabilities, X_known=X_known, random_state=seed).positions


def taught(data: Embedded, choice: Choice, seed: int, shown: tuple[int, ...]) -> list[float]:
    """Return test accuracy after so many batches of one label a class."""
    pool = pool_of(data, seed)
    X, y, n = data.X[pool], data.y[pool], len(np.unique(data.y))
    left, known, probabilities, found = np.arange(len(X)), np.zeros(0, int), None, []
    for batch in range(1, max(shown) + 1):
        chosen = choice(X[left], n, probabilities, X[known], seed)
        known, left = np.concatenate([known, left[chosen]]), np.delete(left, chosen)
        if choice is suggested or batch in shown:
            model = AdaptiveClassifier().fit(X[known], y[known])
            found += [right(model, data)] if batch in shown else []
        if choice is suggested and batch < max(shown):
            probabilities = model.predict_proba(X[left])
    return found


def balanced(data: Embedded, seed: int) -> float:
    """Return test accuracy after a random draw of 10 labels of each class."""
    pool = np.random.default_rng((seed, 1)).permutation(pool_of(data, seed))
    drawn = np.concatenate([pool[data.y[pool] == label][:GOAL] for label in np.unique(data.y)])
    return right(AdaptiveClassifier(method="kernel-logistic").fit(data.X[drawn], data.y[drawn]), data)


def pool_of(data: Embedded, seed: int) -> np.ndarray:
    """Return the positions of three quarters of the training split."""
    return np.sort(np.random.default_rng((seed, 0)).choice(len(data.X), len(data.X) * 3 // 4, replace=False))


def right(model: AdaptiveClassifier, data: Embedded) -> float:
    """Return the share of the test split that is named rightly."""
    return float((model.predict(data.X_test) == data.y_test).mean())


def shown(scores: np.ndarray, unit: float = 0.01) -> str:
    """Return a mean with its 95 % interval, by default in points."""
    found = EpisodeScores(scores)
    return f"{found.mean / unit:.2f} ± {found.interval / unit:.2f}"


def suggest_rows(options: argparse.Namespace) -> Iterator[Row]:
    """Compare random choice and `suggest` at each number of labels."""
    for name, draws in DRAWS.items():
        data, begun = unit(embedded(name, options)), time.perf_counter()
        seeds = range(100, 100 + (options.draws or draws))
        n = len(np.unique(data.y))
        by_chance = np.array([taught(data, at_random, seed, (*SHOWN, GOAL)) for seed in seeds])
        print(name, "at random", f"{time.perf_counter() - begun:.0f} s", flush=True)
        ours = np.array([taught(data, suggested, seed, SHOWN) for seed in seeds])
        even = np.array([balanced(data, seed) for seed in seeds])
        pairs = [(f"{one} × {n}", by_chance[:, at], ours[:, at]) for at, one in enumerate(SHOWN)]
        pairs += [
            (f"{SAVED} × {n}, random {GOAL} × {n}", by_chance[:, -1], ours[:, -1]),
            (f"{SAVED} × {n}, random {GOAL} of each class", even, ours[:, -1]),
        ]
        for labels, other, found in pairs:
            row = {"set": name, "labels": labels, "random": shown(other), "suggest": shown(found)}
            yield {**row, "gain": shown(found - other), "draws": len(found)}
        print(name, f"{time.perf_counter() - begun:.0f} s", flush=True)


def unit(data: Embedded) -> Embedded:
    """Return a set with embeddings of unit length."""
    return data._replace(X=unit_length(data.X), X_test=unit_length(data.X_test))


def audit_rows(options: argparse.Namespace) -> Iterator[Row]:
    """Change labels and plant near-duplicates, and count what is found."""
    for name, draws in DRAWS.items():
        data = unit(embedded(name, options))
        found = [audited(data, seed) for seed in range(options.draws or draws)]
        cells = {key: np.array([one[key] for one in found]) for key in found[0]}
        yield {"set": name, **{key: shown(one, 1 if key in COUNTS else 0.01) for key, one in cells.items()}}


def audited(data: Embedded, seed: int) -> dict[str, float]:
    """Return the shares of one draw."""
    random, classes = np.random.default_rng(seed), np.unique(data.y)
    drawn = np.concatenate([random.permutation(np.flatnonzero(data.y == label))[:SHOTS] for label in classes])
    X, y = data.X[drawn], data.y[drawn].copy()
    wrong = random.choice(len(y), round(CHANGED * len(y)), replace=False)
    y[wrong] = [random.choice(classes[classes != label]) for label in y[wrong]]
    ids = np.arange(len(y)).astype(str)
    begun = time.perf_counter()
    found = audit(X, y, ids, n=len(y))
    seconds = time.perf_counter() - begun
    named = np.array([int(one.id) for one in found.contradictions])
    hits = named[: len(wrong)][np.isin(named[: len(wrong)], wrong)]
    suggestions = {int(one.id): one.suggested for one in found.contradictions}
    again = random.choice(len(y), round(AGAIN * len(y)), replace=False)
    noise = random.normal(size=(len(again), X.shape[1]))
    copies = X[again] + NOISE * unit_length(noise)
    other = y[again].copy()
    other[::2] = [random.choice(classes[classes != label]) for label in other[::2]]
    both = audit(
        np.concatenate([X, copies]), np.concatenate([y, other]),
        [*ids, *(f"again-{one}" for one in again)], n=10 * len(y),
    )  # fmt: skip
    pairs = {frozenset((one.id, one.other_id)) for one in both.duplicates}
    assert found.accuracy is not None
    return {
        "wrong among the first k": len(hits) / len(wrong),
        "wrong among all contradictions": np.isin(wrong, named).mean(),
        COUNTS[0]: len(named) / len(wrong),
        "first k named as they were": np.mean([suggestions[one] == data.y[drawn][one] for one in hits.tolist()]),
        "near-duplicates": np.mean([frozenset((str(one), f"again-{one}")) in pairs for one in again]),
        "accuracy said": found.accuracy.accuracy,
        COUNTS[1]: seconds,
    }


PARTS = {"suggest": suggest_rows, "audit": audit_rows}
NOTES = {
    "suggest": "test accuracy in %, mean over draws ± 95 % interval; the last two lines of a set are the goal's",
    "audit": "in %, mean over draws ± 95 % interval, but for contradictions / wrong (a ratio) and seconds; k: labels "
    "that were changed",
}


def main() -> None:
    """Run the parts that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DEFAULT, help="the folder of the sets' folders")
    parser.add_argument("--embedded", type=Path, help="a folder that keeps embeddings")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--draws", type=int, help="of each set; by default 20 of clothing and 10 of Banking77")
    options = parser.parse_args()
    with threadpool_limits(1):  # small problems: threads would wait for each other
        for part in options.only:
            write_result(Path(__file__), list(PARTS[part](options)), note=NOTES[part], suffix=f"_{part}")


if __name__ == "__main__":
    main()
