"""Labelled embeddings -> a kept head, what is known of it, and its report."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

from classifiers.errors import InvalidOption, TooFewExamples
from classifiers.persist import load_head
from headwater.errors import DataInvalid
from headwater.evaluation import evaluate_head, summary
from headwater.examples import Examples
from headwater.training import Options, Origin, train_head

X, DIGITS = load_digits(return_X_y=True)
X = X.astype(np.float32)
NAMES = [f"digit {i}" for i in DIGITS]
ORIGIN = Origin(backbone="pixels", fingerprint="ab" * 16, items=["00"] * 300)
LOGISTIC = Options(head="logistic")


def examples(rows: slice, labels: list[Any] = NAMES) -> Examples:
    return Examples(X[rows], labels[rows], [f"<b>item {i}</b>" for i in range(*rows.indices(len(X)))])


def report(folder: Path) -> dict[str, Any]:
    assert "&lt;b&gt;item" in (folder / "report.html").read_text()
    return json.loads((folder / "report.json").read_text())


def test_a_head_says_what_to_expect_of_it(tmp_path: Path) -> None:
    steps: list[tuple[int, int, str]] = []
    manifest = train_head(
        tmp_path,
        examples(slice(300)),
        ORIGIN,
        Options(head="logistic", seed=3),
        report=True,
        name="digits",
        progress=lambda *s: steps.append(s),
    )
    head, read = load_head(tmp_path)
    assert read == manifest
    found = manifest.metrics
    assert found["cv_n"] == 300
    assert 0.85 < found["cv_accuracy_low"] < found["cv_accuracy"] < found["cv_accuracy_high"] <= 1
    assert np.mean(head.predict(X[300:]) == NAMES[300:]) > 0.85
    assert head.rejection is not None
    assert 0.02 < head.is_unknown(X[300:]).mean() < 0.3
    assert manifest.options["estimator"] == "logistic"
    assert len(manifest.options["tried"]) > 2
    assert steps[-1][0] == steps[-1][1]
    told = report(tmp_path)
    assert (told["name"], told["measured_on"], told["n_train"]) == ("digits", "cross-validation", 300)
    for name in ("accuracy", "log_loss"):
        ends = [found[f"cv_{name}{end}"] for end in ("", "_low", "_high")]
        assert list(told["measures"][name].values()) == ends


def test_the_same_seed_gives_the_same_head(tmp_path: Path) -> None:
    for name in ("one", "two"):
        train_head(tmp_path / name, examples(slice(200)), ORIGIN, Options(seed=3))
    one, two = (load_head(tmp_path / name)[0] for name in ("one", "two"))
    np.testing.assert_array_equal(one.predict_proba(X), two.predict_proba(X))


def test_test_examples_are_what_is_measured_and_strangers_are_out_of_scope(tmp_path: Path) -> None:
    known = [i for i in range(400) if DIGITS[i] < 8]
    learnt = Examples(X[known], [NAMES[i] for i in known])
    test = examples(slice(400, 700))
    manifest = train_head(tmp_path, learnt, ORIGIN, LOGISTIC, test=test, report=True)
    assert "cv_accuracy" not in manifest.metrics
    assert manifest.metrics["test_n"] == sum(DIGITS[400:700] < 8)
    told = report(tmp_path)
    assert told["measured_on"] == "test"
    assert told["open_set"]["n_out_of_scope"] == sum(DIGITS[400:700] >= 8)
    assert told["open_set"]["auroc"] > 0.7


def test_a_label_may_mean_that_items_belong_to_no_class(tmp_path: Path) -> None:
    labels = [name if digit < 8 else "other" for name, digit in zip(NAMES, DIGITS, strict=True)]
    options = Options(head="logistic", out_of_scope="other")
    manifest = train_head(tmp_path, examples(slice(400), labels), ORIGIN, options)
    head, _ = load_head(tmp_path)
    assert "other" not in head.classes_
    assert head.rejection is not None
    assert "out of scope" in head.rejection.rule
    assert manifest.metrics["cv_n"] == sum(DIGITS[:400] < 8)
    strangers = DIGITS[400:] >= 8
    unknown = head.is_unknown(X[400:])
    assert unknown[strangers].mean() > 0.3 > 0.2 > unknown[~strangers].mean()


def test_validation_examples_choose(tmp_path: Path) -> None:
    manifest = train_head(
        tmp_path,
        examples(slice(300)),
        ORIGIN,
        LOGISTIC,
        validation=examples(slice(300, 500)),
        test=examples(slice(500, 800)),
    )
    assert all(trial["folds"] == 1 for trial in manifest.options["tried"])
    assert manifest.metrics["test_accuracy"] > 0.75


def test_several_labels_of_an_item(tmp_path: Path) -> None:
    labels = [tuple(["even"] * (i % 2 == 0) + ["large"] * (i > 4)) for i in DIGITS.tolist()]
    manifest = train_head(
        tmp_path, examples(slice(400), labels), ORIGIN, Options(kind="multi", head="logistic"), report=True
    )
    head, _ = load_head(tmp_path)
    assert head.classes_.tolist() == ["even", "large"]
    assert manifest.metrics["cv_macro_f1"] > 0.8
    assert report(tmp_path)["kind"] == "multi"
    measures, opened = evaluate_head(head, manifest, examples(slice(400, 600), labels), name="two")
    assert summary(measures)["macro_f1"][0] > 0.75
    assert opened is None


def test_numbers_are_regressed(tmp_path: Path) -> None:
    values = [float(i) for i in DIGITS]
    manifest = train_head(
        tmp_path,
        examples(slice(400), values),
        ORIGIN,
        Options(kind="regression"),
        test=examples(slice(400, 600), values),
        report=True,
    )
    head, _ = load_head(tmp_path)
    assert head.kind == "regression"
    assert manifest.metrics["test_r2"] > 0.6
    assert report(tmp_path)["measures"]["rmse"]["value"] == pytest.approx(manifest.metrics["test_rmse"])


def test_one_example_of_each_is_a_head_of_which_nothing_is_known(tmp_path: Path) -> None:
    rows = [NAMES.index(f"digit {i}") for i in range(10)]
    manifest = train_head(tmp_path, Examples(X[rows], [NAMES[i] for i in rows]), ORIGIN, report=True)
    assert manifest.metrics == {}
    assert any("not searched" in note for note in manifest.options["notes"])
    head, _ = load_head(tmp_path)
    assert head.rejection is None
    assert np.mean(head.predict(X) == NAMES) > 0.4
    assert not (tmp_path / "report.html").exists()


def test_a_group_is_held_out_together(tmp_path: Path) -> None:
    twice = np.concatenate([X[:150], X[:150] + np.float32(0.1)])
    # Each example is there nearly twice: only in groups is the twin of a held-out one not learnt from.
    names, groups = NAMES[:150] * 2, [str(i) for i in range(150)] * 2
    apart = train_head(tmp_path / "a", Examples(twice, names, groups=groups), ORIGIN, Options(head="knn"))
    mixed = train_head(tmp_path / "b", Examples(twice, names), ORIGIN, Options(head="knn"))
    assert apart.metrics["cv_accuracy"] < mixed.metrics["cv_accuracy"]


def test_what_cannot_be_learnt_or_measured_is_told(tmp_path: Path) -> None:
    with pytest.raises(TooFewExamples):
        train_head(tmp_path / "a", Examples(X[:3], ["one"] * 3), ORIGIN)
    assert not (tmp_path / "a").exists()
    manifest = train_head(tmp_path / "b", examples(slice(100)), ORIGIN, LOGISTIC)
    head, _ = load_head(tmp_path / "b")
    with pytest.raises(DataInvalid, match=r"none of the 2 labels is one of head 'b@1': digit 0, digit 1"):
        evaluate_head(head, manifest, Examples(X[:2], ["cat", "dog"]), name="b@1")
    with pytest.raises(DataInvalid, match="no test example has a label that was learnt"):
        train_head(tmp_path / "c", examples(slice(100)), ORIGIN, LOGISTIC, test=Examples(X[:2], ["cat", "dog"]))


def test_an_evaluation_is_of_what_it_is_given(tmp_path: Path) -> None:
    manifest = train_head(tmp_path / "head", examples(slice(300)), ORIGIN, LOGISTIC)
    head, _ = load_head(tmp_path / "head")
    labels = ["no digit" if i % 10 == 0 else name for i, name in enumerate(NAMES)]
    measures, opened = evaluate_head(
        head, manifest, examples(slice(300, 600), labels), name="x", folder=tmp_path / "told"
    )
    assert measures.n == 270
    right = head.predict(X[300:600]) == labels[300:600]
    assert summary(measures)["accuracy"][0] == pytest.approx(right.sum() / 270)
    assert opened is not None
    assert opened.n_out_of_scope == 30
    assert report(tmp_path / "told")["measured_on"] == "test"


def test_without_test_examples_a_head_that_was_validated_is_measured_too(tmp_path: Path) -> None:
    manifest = train_head(tmp_path, examples(slice(200)), ORIGIN, LOGISTIC, validation=examples(slice(200, 300)))
    assert manifest.metrics["cv_n"] == 200
    assert manifest.metrics["cv_accuracy"] > 0.8


def test_a_report_says_where_its_numbers_are_from(tmp_path: Path) -> None:
    halves = examples(slice(200)), examples(slice(200, 300))
    train_head(tmp_path, halves[0], ORIGIN, LOGISTIC, validation=halves[1], report=True)
    assert "Compared on the validation examples." in (tmp_path / "report.html").read_text()
    one_each = [NAMES.index(f"digit {i}") for i in range(10)]
    learnt = Examples(X[one_each], [NAMES[i] for i in one_each])
    train_head(tmp_path, learnt, ORIGIN, LOGISTIC, test=examples(slice(300, 400)), report=True)
    told = report(tmp_path)
    assert (told["measured_on"], told["n_train"], told["n_test"]) == ("test", 10, 100)
    assert told["searched"] == "test examples"


def test_items_of_no_class_are_counted_among_test_examples(tmp_path: Path) -> None:
    labels = [name if digit < 8 else "other" for name, digit in zip(NAMES, DIGITS, strict=True)]
    options = Options(head="logistic", out_of_scope="other")
    manifest = train_head(
        tmp_path, examples(slice(400), labels), ORIGIN, options, test=examples(slice(400, 700), labels)
    )
    head, _ = load_head(tmp_path)
    strange = DIGITS[400:700] >= 8
    assert manifest.metrics["test_n_out_of_scope"] == strange.sum()
    unknown = head.is_unknown(X[400:700])
    assert manifest.metrics["test_out_of_scope_recall"] == pytest.approx(unknown[strange].mean())
    assert manifest.options["notes"] == []


def test_labels_of_test_examples_that_nobody_learnt_are_told(tmp_path: Path) -> None:
    test = Examples(X[300:400], ["digti 7" if one == "digit 7" else one for one in NAMES[300:400]])
    manifest = train_head(tmp_path / "one", examples(slice(300)), ORIGIN, LOGISTIC, test=test)
    assert "labels of test examples that the head does not have, 1 in all: digti 7; " in manifest.options["notes"][0]
    labels = [(name,) for name in NAMES]
    sets = {"test": Examples(X[300:400], [*labels[300:399], ("new",)]), "validation": examples(slice(300, 400), labels)}
    manifest = train_head(
        tmp_path / "two", examples(slice(300), labels), ORIGIN, Options(kind="multi", head="logistic"), **sets
    )
    assert manifest.options["notes"] == [
        "labels of test examples that the head does not have, 1 in all: new; they are left out"
    ]


def test_test_examples_that_were_learnt_from_are_told(tmp_path: Path) -> None:
    manifest = train_head(tmp_path, examples(slice(200)), ORIGIN, LOGISTIC, test=examples(slice(180, 300)))
    assert manifest.options["notes"][0].startswith("20 of the 120 test examples were learnt from too")


def test_an_out_of_scope_label_that_is_nobodys_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match=r"out_of_scope is 'othr', .* there are digit 0, digit 1"):
        train_head(tmp_path, examples(slice(100)), ORIGIN, Options(head="logistic", out_of_scope="othr"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (Options(kind="ranking"), "kind is 'ranking'"),
        (Options(reject_rate=1.5), "reject_rate is 1.5"),
        (Options(kind="multi", out_of_scope="other"), "for one label"),
        (Options(reject="validation"), "needs out_of_scope"),
    ],
)
def test_options_that_no_training_takes_are_told_at_once(options: Options, message: str) -> None:
    with pytest.raises(InvalidOption, match=message):
        options.check()
