"""The report of real photos, in a real browser. The data are not ours to ship; where they are not, nothing is told."""

import json
from pathlib import Path

import numpy as np
import pytest

from classifiers.suspects import label_suspects, out_of_fold
from extractor import Extractor
from headwater.examples import Examples
from headwater.labelled import read_labelled
from headwater.training import Options, Origin, train_head
from tests import browser
from tests.test_layers import ROOT

CLOTHING = ROOT.parent / "shared" / "data" / "clothing"
CHANGED, FIRST, LEAST = 0.03, 150, 0.85
PUBLISHED = 0.9032  # a frozen Xception (Machine Learning Bookcamp, chapter 7)

pytestmark = [
    pytest.mark.stress,
    pytest.mark.skipif(not CLOTHING.is_dir(), reason=f"no {CLOTHING}: clothing-dataset-small, CC0"),
]


@pytest.fixture(scope="module")
def sets(backbones: Path) -> tuple[dict[str, Examples], str]:
    with Extractor.load("efficientnet-lite0") as extractor:
        read = {name: read_labelled(CLOTHING / name) for name in ("train", "validation", "test")}
        made = {
            name: Examples(extractor.extract(one.items), one.labels, one.items, one.names) for name, one in read.items()
        }
        return made, extractor.fingerprint


def test_the_report_draws_asks_for_nothing_and_tells_the_published_accuracy(
    sets: tuple[dict[str, Examples], str], tmp_path: Path
) -> None:
    examples, fingerprint = sets
    origin = Origin(backbone="efficientnet-lite0", fingerprint=fingerprint)
    manifest = train_head(
        tmp_path / "head",
        examples["train"],
        origin,
        Options(),
        validation=examples["validation"],
        test=examples["test"],
        name="clothing",
        report=True,
    )
    assert manifest.metrics["test_accuracy"] >= PUBLISHED
    page = tmp_path / "head" / "report.html"
    found = browser.drawn(page, tmp_path)
    assert found["bad"] == []
    assert found["svgs"] >= 6
    assert found["images"] > 40
    assert browser.asked_for(page, tmp_path)[0] == set()
    assert json.loads((tmp_path / "head" / "report.json").read_text())["n_test"] == 372


@pytest.mark.parametrize("seed", [1000, 1001, 1002])
def test_changed_labels_are_among_the_first_suspects(sets: tuple[dict[str, Examples], str], seed: int) -> None:
    train = sets[0]["train"]
    rng = np.random.default_rng(seed)
    y = np.array(train.labels)
    classes = np.unique(y)
    changed = rng.choice(len(y), round(CHANGED * len(y)), replace=False)
    y[changed] = [rng.choice(classes[classes != one]) for one in y[changed]]
    probabilities = out_of_fold(train.X, y, classes, random_state=seed)
    first = label_suspects(y, probabilities, classes, n=FIRST).rows
    assert np.isin(changed, first).mean() >= LEAST
