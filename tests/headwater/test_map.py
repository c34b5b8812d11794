"""The map of a dump: the page, and in a real browser what it draws."""

import base64
import hashlib
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits
from typer.testing import CliRunner

from headwater.cli import app
from headwater.report.facts import Shown
from headwater.report.map_page import Plane, render_map, write_map
from tests import browser
from tests.dumps import write_dump
from tests.tiny import flat, png

EVIL = "</script><script>document.title='owned'</script><img src=x onerror=alert(1)>\u2028<!--"
X, Y = load_digits(return_X_y=True)


@pytest.fixture
def run() -> Callable[..., str]:
    def call(*arguments: object) -> str:
        done = CliRunner().invoke(app, list(map(str, arguments)))
        return done.output + str(done.exception or "")

    return call


def data_of(page: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])  # type: ignore[index]
    return found


def plane(n: int, **facts: Any) -> Plane:
    positions = np.random.default_rng(0).uniform(-1, 1, (n, 2))
    names, labels = [f"{i}.jpg" for i in range(n)], [str(i % 4) for i in range(n)]
    own = {"names": names, "labels": labels, "n": n, "positions": positions}
    return Plane(**({"name": "d", "backbone": "b", "fingerprint": "f", "method": "PCA"} | own | facts))


def test_a_map_shows_every_item_where_it_is(tmp_path: Path, run: Callable[..., str]) -> None:
    dump = write_dump(tmp_path / "d", X[:200], labels=[None, *map(str, Y[1:200])], errors={3: "bad"})
    assert "199 of 199 items by PCA" in run("map", dump)
    page = (dump / "map.html").read_text("utf-8")
    data = data_of(page)
    assert len(data["names"]) == len(data["x"]) == len(data["y"]) == len(data["label"]) == 199
    assert data["names"][:4] == ["items/0.jpg", "items/1.jpg", "items/2.jpg", "items/4.jpg"]
    assert data["label"][0] == -1
    assert [data["labels"][rank] for rank in data["label"][1:]] == [str(Y[i]) for i in range(1, 200) if i != 3]
    assert {min(data["x"] + data["y"]), max(data["x"] + data["y"])} & {0, 65535}
    assert all(0 <= place <= 65535 for place in data["x"] + data["y"])
    assert "no label" in page


def test_texts_are_carried_and_files_are_read_below_their_folder_alone(tmp_path: Path, run: Callable[..., str]) -> None:
    (tmp_path / "items").mkdir()
    (tmp_path / "items" / "red.png").write_bytes(png(flat(250)))
    (tmp_path / "items" / "words.txt").write_text("a few words")
    (tmp_path / "secret.txt").write_text("nobody's business")
    (tmp_path / "items" / "link.txt").symlink_to(tmp_path / "secret.txt")
    keys = ["red.png", "words.txt", "../secret.txt", str(tmp_path / "secret.txt"), "link.txt", "gone.png", "\0"]
    dump = write_dump(tmp_path / "d", np.eye(7), keys=keys)
    told = run("map", dump, "--items", tmp_path / "items", "--out", tmp_path / "m.html", "--json")
    assert json.loads(told) == {"map": str(tmp_path / "m.html"), "method": "PCA", "rows": 7, "shown": 7}
    page = (tmp_path / "m.html").read_text("utf-8")
    assert "business" not in page
    assert data_of(page)["texts"] == {"1": "a few words"}
    assert list(data_of(page)["images"]) == ["0"]
    texts = write_dump(tmp_path / "t", np.eye(3), text=["short", "x" * 500, None])
    assert "2 with a preview" in run("map", texts)
    both = write_dump(tmp_path / "b", np.eye(2), keys=["red.png", "gone.png"], text=["a caption", None])
    assert "items are too few, or too like each other, for --method tsne" in run("map", both, "--method", "tsne")
    run("map", both, "--items", tmp_path / "items")
    assert list(data_of((both / "map.html").read_text())["images"]) == ["0"]
    assert {i: len(one) for i, one in data_of((texts / "map.html").read_text())["texts"].items()} == {"0": 5, "1": 200}


def test_very_many_are_sampled_and_it_says_so(tmp_path: Path, run: Callable[..., str]) -> None:
    dump = write_dump(tmp_path / "d", X[:300], labels=[str(one) for one in Y[:300]], camera=list(range(300)))
    assert "100 of 300 items" in run("map", dump, "--rows", 100, "--colour", "camera")
    page = (dump / "map.html").read_text("utf-8")
    assert "100 of 300 items are shown, of every label its share" in page
    assert "camera, 100" in page
    assert "--method is 'mds'; take one of pca, tsne, umap" in run("map", dump, "--method", "mds")
    assert "there is no column 'colour'" in run("map", dump, "--colour", "colour")
    assert "which is no folder" in run("map", dump, "--items", tmp_path / "gone")
    assert (
        "No item of the dump could be read"
        in (run("map", dump, "--items", tmp_path), (dump / "map.html").read_text())[1]
    )
    assert "cannot write" in run("map", dump, "--out", tmp_path / "gone" / "m.html")


class Scripts(HTMLParser):
    """How many scripts a page has, and which attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_strangers_words_stay_words_and_only_our_own_script_may_run() -> None:
    evil = {0: Shown(EVIL, text=EVIL)}
    page = render_map(plane(3, name=EVIL, names=[EVIL] * 3, labels=[EVIL] * 3, previews=evil, notes=[EVIL]))
    tags = Scripts(page).tags
    assert [attrs.get("type") for tag, attrs in tags if tag == "script"] == ["application/json", None]
    assert not [tag for tag, _ in tags if tag == "img"]
    assert not [
        attrs
        for _, attrs in tags
        if any(name.startswith("on") or name == "href" for name in attrs) and attrs.get("rel") != "icon"
    ]
    assert data_of(page)["names"] == [EVIL] * 3
    assert "default-src 'none'" in page
    script = page.rsplit("<script>", 1)[1].split("</script>")[0]
    assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in page


def test_of_many_labels_the_most_frequent_are_listed_and_one_item_is_a_map() -> None:
    page = render_map(plane(600, labels=[str(i % 300) for i in range(600)]))
    assert "and 100 more" in page
    assert page.count("<button data-label=") == 200
    assert data_of(render_map(plane(1, labels=[None])))["label"] == [-1]


# In a real browser.

CHECKER = """<script>
addEventListener("load", () => {
  const canvas = document.getElementById("map"), box = canvas.getBoundingClientRect();
  const ink = () => {
    const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    let n = 0;
    for (let i = 3; i < pixels.length; i += 4) n += pixels[i] > 100;
    return n;
  };
  const said = { first: ink(), wide: document.documentElement.scrollWidth > document.documentElement.clientWidth };
  let at = performance.now();
  draw();
  canvas.getContext("2d").getImageData(0, 0, 1, 1);
  said.ms = performance.now() - at;
  const at0 = { bubbles: true, clientX: box.left + xOf(0), clientY: box.top + yOf(0) };
  canvas.dispatchEvent(new PointerEvent("pointermove", at0));
  said.tip = tip.hidden ? "" : tip.textContent;
  said.image = !!tip.querySelector("img");
  said.colours = new Set([-1, ...data.labels.keys()].map((label) => colours[colourOf(label)])).size;
  said.keys = new Set(keys.map((key) => getComputedStyle(key.firstElementChild).backgroundColor)).size;
  document.querySelector("[data-label]").click();
  draw();
  said.chosen = ink();
  document.querySelector("[data-label]").click();
  zoom(8); draw();
  said.zoomed = ink();
  all();
  search.value = "7.JPG"; find();
  said.found = document.getElementById("found").textContent;
  document.body.innerHTML = "";
  document.body.dataset.found = btoa(unescape(encodeURIComponent(JSON.stringify(said))));
});
</script>"""


def drawn(page: Path, folder: Path, *, width: int) -> dict[str, Any]:
    copy = folder / "copy.html"
    text = re.sub(r"<meta http-equiv[^>]*>", "", page.read_text("utf-8"))
    copy.write_text(text.replace("</body>", CHECKER + "</body>"))
    shown = browser.chromium(
        f"--user-data-dir={folder / 'profile'}", f"--window-size={width},900", "--virtual-time-budget=20000",
        "--dump-dom", copy.as_uri(),
    )  # fmt: skip
    found: dict[str, Any] = json.loads(base64.b64decode(re.search(r'data-found="([^"]+)"', shown)[1]))  # type: ignore[index]
    return found


@pytest.mark.stress
@pytest.mark.parametrize(("n", "width"), [(1, 1280), (500, 500), (5000, 1280), (100_000, 1280)])
def test_a_map_draws_in_a_browser(n: int, width: int, tmp_path: Path) -> None:
    picture = "data:image/png;base64," + base64.b64encode(png(flat(250))).decode()
    labels = [None if i % 61 == 60 else str(i % 61) for i in range(n)]
    write_map(tmp_path / "map.html", plane(n, labels=labels, previews={0: Shown("", image=picture, text=EVIL)}))
    found = drawn(tmp_path / "map.html", tmp_path, width=width)
    assert found["first"] > 20
    assert found["colours"] == min(n, 60) + 1, "a label, or none, has the colour of another"
    assert found["keys"] == min(n, 61), "the legend's colours are not those of the items"
    assert not found["wide"], "the page scrolls sideways"
    assert found["tip"].endswith("jpg")
    if n <= 5000:
        assert found["tip"] == f"0{EVIL}0.jpg"
        assert found["image"]
    assert found["chosen"] < found["first"] or n == 1
    assert found["found"] == f"{sum(str(i).endswith('7') for i in range(n)):,} found"


@pytest.mark.stress
def test_no_request_leaves_the_map(tmp_path: Path) -> None:
    write_map(tmp_path / "map.html", plane(50, names=[EVIL] * 50, labels=[EVIL] * 50))
    asked, shown = browser.asked_for(tmp_path / "map.html", tmp_path)
    assert asked == set()
    assert re.search(r'<canvas[^>]* width="\d+"', shown), "the policy kept the map's own script out"
    assert "<title>owned" not in shown
