import io
import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import make_blobs

from classifiers.fewshot import NearestClassMean
from classifiers.measures import open_set
from headwater.report import Examples, Report, Tried, make_report, write_report
from headwater.report.page import render
from headwater.report.thumbnails import Budget, Thumbnails, thumbnail
from tests import browser

HOSTILE = "<script>alert(1)</script>\"'&{{ 7 * 7 }}</title>"
LOADS = {"src", "href", "srcset", "poster", "data", "action", "xlink:href"}


def photo(shade: int, size: tuple[int, int] = (120, 80)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (shade, 90, 160)).save(buffer, "PNG")
    return buffer.getvalue()


def examples(classes: list[Any], n: int, *, seed: int = 0, missing: int | None = None, **more: Any) -> Examples:
    """Embeddings in clouds, one a class, with the probabilities of a head that is often right."""
    X, own = make_blobs(n, 12, centers=len(classes), cluster_std=6, random_state=seed)
    own[: len(classes)] = np.arange(len(classes))
    if missing is not None:
        own[own == missing] = (missing + 1) % len(classes)
    random = np.random.default_rng(seed)
    logits = 4.0 * np.eye(len(classes))[own] + random.normal(size=(n, len(classes)), scale=1.6)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return Examples(X, np.array(classes)[own], p, **more)


class Tags(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def count(self, tag: str) -> int:
        return sum(tag == one for one, _ in self.found)


def check_page(page: str) -> Tags:
    """Assert that nothing is loaded from anywhere, and that no stranger's words have become code."""
    tags = Tags(page)
    for tag, attributes in tags.found:
        for name, value in attributes.items():
            assert not name.startswith("on"), f"{tag} has {name}"
            if name in LOADS:
                assert (value or "").startswith(("#", "data:image/jpeg;base64,", "data:,")), f"{tag} loads {value}"
    style = page[page.index("<style>") : page.index("</style>")]
    assert not re.search(r"url\(|@import", style)
    assert tags.count("script") in (0, 2)
    assert tags.count("iframe") == tags.count("object") == tags.count("embed") == 0
    return tags


@pytest.fixture(scope="module")
def report() -> Report:
    """A report with everything on it."""
    classes = ["hat", "Mütze", "帽子", HOSTILE, "x" * 300]
    train = examples(
        classes, 200, items=[photo(i) for i in range(200)], names=[f"{HOSTILE}/{i}.png" for i in range(200)]
    )
    test = examples(classes, 60, seed=1, items=lambda row: photo(row))
    test = Examples(np.concatenate([test.X[:-1], train.X[:1]]), test.y, test.predicted, test.items)
    known = np.arange(60) < 50
    return make_report(
        train,
        test,
        name=HOSTILE,
        classes=classes,
        backbone=HOSTILE,
        fingerprint="0" * 32,
        chosen=HOSTILE,
        estimator=NearestClassMean(),
        tried=[Tried(HOSTILE, HOSTILE, 0.5, 1.25, 0.1, chosen=True), Tried("none", "")],
        open_set=open_set(known, known, ~known, np.arange(60.0)[::-1], n_resamples=10),
        notes=[HOSTILE],
    )


def test_strangers_words_stay_words(report: Report) -> None:
    page = render(report)
    assert "<script>alert" not in page
    assert "49" not in [word.strip() for word in Tags(page).words]
    tags = check_page(page)
    assert tags.count("img") > 10
    assert HOSTILE in "".join(tags.words)


def test_all_sections_are_there(report: Report) -> None:
    tags = check_page(render(report))
    ids = {attributes.get("id") for tag, attributes in tags.found if tag == "section"}
    assert ids == {
        "more", "confusion", "classes", "confidence", "unknown", "map", "wrong", "suspects", "duplicates", "tried"
    }  # fmt: skip
    links = {attributes["href"] for tag, attributes in tags.found if tag == "a"}
    assert links == {f"#{one}" for one in ids}


def test_only_our_own_script_may_run(report: Report) -> None:
    policy = next(tag["content"] for _, tag in Tags(render(report)).found if tag.get("http-equiv"))
    assert policy is not None
    assert "default-src 'none'" in policy
    assert re.search(r"script-src 'sha256-[A-Za-z0-9+/=]{44}'$", policy)


def test_the_json_says_the_same(report: Report, tmp_path: Path) -> None:
    page = write_report(tmp_path / "new" / "folder", report)
    facts = json.loads(page.with_name("report.json").read_text("utf-8"))
    assert facts["measures"]["accuracy"]["value"] == report.measures.accuracy.value  # type: ignore[union-attr]
    assert facts["classes"] == list(report.classes)
    assert facts["measures"]["confusion"] == report.measures.confusion.tolist()  # type: ignore[union-attr]
    assert len(facts["suspects"]) == len(report.suspects)
    assert facts["curve"]["advice"] == report.curve.advice  # type: ignore[union-attr]
    assert "data:image" not in json.dumps(facts)
    assert f"{100 * facts['measures']['accuracy']['value']:.1f} %" in page.read_text("utf-8")
    assert sorted(path.name for path in page.parent.iterdir()) == ["report.html", "report.json"]


def test_a_page_that_is_there_is_replaced(report: Report, tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("old")
    assert write_report(tmp_path, report).read_text("utf-8").startswith("<!doctype html>")


def test_duplicates_between_train_and_test_are_named(report: Report) -> None:
    assert report.duplicates_between == "train and test"
    assert (report.duplicates[0].item.name, report.duplicates[0].other.name[-6:]) == ("#59", "/0.png")


@pytest.mark.parametrize(
    ("classes", "n"),
    [
        (["no", "yes"], 40),
        ([3, 1, 2], 60),
        (list("abcdefghijklm"), 100),
        ([f"class {i}" for i in range(25)], 120),
        ([f"Klasse №{i} " + "sehr lang " * 20 for i in range(150)], 400),
    ],
)
def test_few_and_many_classes(classes: list[Any], n: int) -> None:
    report = make_report(examples(classes, n), name="classes", classes=classes, estimator=NearestClassMean())
    tags = check_page(render(report))
    assert tags.count("svg") >= 4
    assert report.measured_on == "cross-validation"
    assert report.duplicates_between == "training examples"


def test_a_class_that_is_missing_from_the_test_set() -> None:
    classes = ["a", "b", "c"]
    report = make_report(
        examples(classes, 60), examples(classes, 30, seed=2, missing=1), name="missing", classes=classes
    )
    assert report.measures.per_class[1].support == 0  # type: ignore[union-attr]
    check_page(render(report))


def test_a_class_that_nobody_has() -> None:
    train = examples(["a", "b", "c"], 60, missing=2)
    certain = np.eye(3)[train.predicted.argmax(axis=1)]  # type: ignore[union-attr]
    certain[:, 1] += certain[:, 2]
    certain[:, 2] = 0
    report = make_report(Examples(train.X, train.y, certain), name="nobody", classes=["a", "b", "c"])
    assert "not among these examples" in render(report)


def test_two_examples() -> None:
    train = Examples([[0.0, 1.0], [1.0, 0.0]], ["a", "b"], [[1.0, 0.0], [1.0, 0.0]], ["one", "two"])
    report = make_report(train, name="two", classes=["a", "b"], estimator=NearestClassMean())
    assert report.curve is None
    assert any("No learning curve" in note for note in report.notes)
    check_page(render(report))


def test_one_class_is_a_report_too() -> None:
    report = make_report(Examples(np.eye(3), ["a"] * 3, np.ones((3, 1))), name="one", classes=["a"])
    assert report.suspects == ()
    check_page(render(report))


def test_texts_are_shown_from_their_beginning() -> None:
    texts = [f"{i} <b>bold</b> שלום " + "word " * 100 for i in range(60)]
    train = examples(["a", "b", "c"], 60, items=texts)
    report = make_report(train, name="texts", classes=["a", "b", "c"])
    assert report.map is not None
    assert all(len(dot.item.text) == 200 for dot in report.map.dots)
    page = render(report)
    check_page(page)
    assert "<b>bold" not in page


def test_very_many_examples_are_not_compared_with_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headwater.report.make.MAX_FITTED", 30)
    monkeypatch.setattr("headwater.report.make.MAX_COMPARED", 30)
    train = examples(["a", "b", "c"], 60)
    report = make_report(train, name="many", classes=["a", "b", "c"])
    assert report.duplicates_between == ""
    assert "Near-duplicates are not searched among more than 30" in render(report)
    given, p = report.suspects[0], np.asarray(train.predicted)
    assert given.suggested_probability == p[given.row].max()  # of the head itself, for no other was fitted


def test_multi_label() -> None:
    random = np.random.default_rng(0)
    p = random.random((80, 4))
    train = Examples(random.normal(size=(80, 5)), random.random((80, 4)) < p, p)
    report = make_report(train, name="multi", classes=["ä", "b", "c", "d"], kind="multi")
    tags = check_page(render(report))
    assert "Label by label" in "".join(tags.words)
    assert not report.wrong


def test_regression() -> None:
    random = np.random.default_rng(0)
    y = random.normal(size=80) * 1e4
    train = Examples(random.normal(size=(80, 5)), y, y + random.normal(size=80))
    report = make_report(train, name="numbers", kind="regression")
    assert report.scatter is not None
    tags = check_page(render(report))
    assert tags.count("svg") == 2
    facts = json.dumps(report.as_json(), allow_nan=False)
    assert "R²" in "".join(tags.words)
    assert json.loads(facts)["kind"] == "regression"


def test_a_report_is_the_same_again() -> None:
    train = examples(["a", "b"], 50)
    pages = [
        render(make_report(train, name="same", classes=["a", "b"], estimator=NearestClassMean())) for _ in range(2)
    ]
    assert pages[0] == pages[1]


def test_a_thumbnail_is_small() -> None:
    assert thumbnail(photo(3, (2000, 1000))).startswith("data:image/jpeg;base64,")
    assert len(thumbnail(photo(3, (2000, 1000)))) < 4000


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", photo(1)[:60], b"\xff\xd8\xff\xe0 no"])
def test_what_is_no_picture_has_no_thumbnail(content: bytes) -> None:
    assert thumbnail(content) == ""


def test_items_that_cannot_be_read_have_a_name(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("just text")
    os.symlink(tmp_path / "nowhere", tmp_path / "link")
    items = [tmp_path / "gone.png", tmp_path / "text.txt", tmp_path, b"\x00\x01\x02", "x" * 500, tmp_path / "link"]
    show = Thumbnails(items, None, Budget())
    assert [bool(show(row).text) for row in range(6)] == [False, True, False, False, True, False]
    assert not any(show(row).image for row in range(6))
    assert show(0).name.endswith("gone.png")


def test_a_name_that_is_no_character_is_written(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    train = examples(["a", "b"], 40, names=[name] * 40)
    page = write_report(tmp_path, make_report(train, name="bytes", classes=["a", "b"]))
    assert "caf?.png" in page.read_text("utf-8")


def test_pictures_keep_to_their_budget() -> None:
    size = len(thumbnail(photo(0)))
    show = Thumbnails([photo(0)] * 10, None, Budget(3 * size))
    assert sum(bool(show(row).image) for row in range(10)) == 3
    assert sum(bool(show(row).image) for row in range(10)) == 3  # shown again costs nothing


# In a real browser.


@pytest.mark.stress
@pytest.mark.parametrize("width", [1280, 500])
def test_every_picture_draws_in_a_browser(report: Report, tmp_path: Path, width: int) -> None:
    page = write_report(tmp_path, report)
    found = browser.drawn(page, tmp_path, width=width)
    assert found["bad"] == []
    assert not found["wide"], "the page scrolls sideways"
    tags = Tags(page.read_text("utf-8"))
    assert (found["svgs"], found["images"]) == (tags.count("svg"), tags.count("img"))
    assert found["images"] > 10
    assert found["tip"]
    assert found["tipImage"]


@pytest.mark.stress
def test_no_request_leaves_the_page(report: Report, tmp_path: Path) -> None:
    page = write_report(tmp_path, report)
    asked, shown = browser.asked_for(page, tmp_path)
    assert asked == set()
    # The policy lets our own script in: it takes the titles of dots away, in whose place it shows its own.
    assert "<title>" in re.findall('class="dot[^>]*>(<title>)', page.read_text("utf-8"))
    assert not re.findall('class="dot[^>]*>(<title>)', shown)
    unguarded = tmp_path / "unguarded.html"  # nor would one leave it if there were no policy
    unguarded.write_text(re.sub(r"<meta http-equiv[^>]*>", "", page.read_text("utf-8")))
    assert browser.asked_for(unguarded, tmp_path)[0] == set()
    unguarded.write_text('<img src="http://192.0.2.1/planted.png">')
    assert browser.asked_for(unguarded, tmp_path)[0] == {"null"}, "the log does not show what a page asks for"
