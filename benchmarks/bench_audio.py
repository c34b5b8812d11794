"""Do frozen embeddings of sounds carry what is said? Spoken digits with 8 examples of each, through service and client.

Accuracy: MAEB's recipe for the Free Spoken Digit Dataset: ten draws, one list of train positions in file order shuffled
anew each time by `RandomState(42)`, the first 8 of each digit, `LogisticRegression(random_state=42, max_iter=100)` on
the embeddings as they are, accuracy on the whole test split; the mean with its 95 % interval over the draws (Student).
Beside it `auto`, the head that `headwater train` would take.
Batch-mates: each test sound alone, against the same sounds shuffled in batches of mixed lengths.
Run: python benchmarks/bench_audio.py [--data FOLDER] [--backbone NAME]
"""

import argparse
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from backbone import ensure
from labelled_sets import DEFAULT, Split, fsdd
from record import markdown, write_result
from scipy.stats import t
from sklearn.linear_model import LogisticRegression

from classifiers.train import train
from extractor import Extractor
from extractor.golden import differences
from headwater import Client
from headwater.process import serving

BACKBONE = "speech-embedding"
SHOTS, DRAWS = 8, 10
GOAL = 0.80
PUBLISHED = "WavLM-base .964, HuBERT-base .937, whisper-tiny .836, wav2vec2-base .548, YAMNet .345"
BATCH_SIZE = 16

Row = dict[str, Any]
Fit = Callable[[np.ndarray, np.ndarray], Callable[[np.ndarray], np.ndarray]]


def logistic(X: np.ndarray, y: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Fit as MAEB does, and return what predicts."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of 100 iterations, which are the recipe's
        return LogisticRegression(random_state=42, max_iter=100).fit(X, y).predict


def auto(X: np.ndarray, y: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Train as `headwater train` does, and return what predicts."""
    return train(X, y, random_state=0).head.predict


def draws(y: np.ndarray) -> Iterator[list[int]]:
    """Yield the positions of the first 8 of each label, in the order of each shuffle."""
    order = list(range(len(y)))
    random = np.random.RandomState(42)  # the recipe's
    for _ in range(DRAWS):
        random.shuffle(order)
        yield [row for label in np.unique(y) for row in [i for i in order if y[i] == label][:SHOTS]]


def accuracy_row(what: str, fit: Fit, train_set: tuple, test_set: tuple) -> Row:
    """Return the mean accuracy over the draws, with its interval."""
    (X, y), (X_test, y_test) = train_set, test_set
    found = np.array([np.mean(fit(X[kept], y[kept])(X_test) == y_test) for kept in draws(y)])
    half = t.ppf(0.975, DRAWS - 1) * found.std(ddof=1) / np.sqrt(DRAWS)
    return {
        "what": what,
        "found": f"{found.mean():.4f} ± {half:.4f}",
        "least and most": f"{found.min():.4f} to {found.max():.4f}",
        "goal": f"at least {GOAL:.2f}",
        "published": PUBLISHED,
    }


def mates_row(name: str, items: list[Path]) -> Row:
    """Compare each sound alone with the same in batches of mixed lengths."""
    order = np.random.default_rng(0).permutation(len(items))
    with Extractor.load(name, cache="off", workers=1, max_padding=0.9, max_batch_size=BATCH_SIZE) as extractor:
        alone = np.concatenate([extractor.extract([item]) for item in items])
        mixed = extractor.extract([items[i] for i in order])
    cosine, difference = differences(mixed, alone[order])
    return {
        "what": f"{len(items)} sounds alone, against shuffled batches of up to {BATCH_SIZE}",
        "found": f"cosine {cosine:.7f}, difference {difference:.1e} of the largest value",
        "least and most": "",
        "goal": "0.99999, 1e-04",
        "published": "",
    }


def main() -> None:
    """Embed through the service, train heads, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DEFAULT, help="the folder of the sets' folders")
    parser.add_argument("--backbone", default=BACKBONE)
    options = parser.parse_args()
    splits: dict[str, Split] = fsdd(options.data)
    with serving(ensure(options.backbone), "--cache", "off") as server, Client(server.target) as client:
        begun = time.perf_counter()
        sets = {name: (client.extract(split.items), split.labels) for name, split in splits.items()}
        seconds = time.perf_counter() - begun
    rows = [
        accuracy_row(f"spoken digits, {SHOTS} a class, logistic regression", logistic, sets["train"], sets["test"]),
        accuracy_row(f"spoken digits, {SHOTS} a class, auto", auto, sets["train"], sets["test"]),
        mates_row(options.backbone, splits["test"].items),
    ]
    n = sum(len(X) for X, _ in sets.values())
    note = f"{options.backbone}; {n} sounds embedded in {seconds:.0f} s by one client; {DRAWS} draws"
    write_result(Path(__file__), rows, note=note)
    print(markdown(rows))


if __name__ == "__main__":
    main()
