"""The Grafana dashboard: whether it can be imported, and whether it names metrics that a server has."""

import json
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from extractor import Extractor
from extractor.cache import CacheFacts
from extractor.cache.memory import MemoryCache
from tests.headwater.test_sight import served
from tests.tiny import flat, png

FILE = Path(__file__).parents[2] / "headwater" / "dashboards" / "headwater.json"
NAME = re.compile(r"\b(?:headwater|process)_[a-z_]+\b")


class Troubled(MemoryCache):
    """A tier that has something of everything to tell."""

    def facts(self) -> list[CacheFacts]:
        return [replace(*super().facts(), dropped={"queue full": 1}, degraded="for a test")]


def panels() -> list[dict]:
    return [panel for panel in json.loads(FILE.read_text())["panels"] if panel["type"] != "row"]


def expressions() -> list[str]:
    return [target["expr"] for panel in panels() for target in panel["targets"]]


def test_every_metric_that_it_names_is_in_a_scrape_and_every_one_of_ours_is_shown(tiny_image: Path) -> None:
    with served({"tiny-image": Extractor.load(tiny_image, cache=Troubled(max_bytes=1 << 20))}) as server:
        server.extract("tiny-image", [png(flat(1)), b""])
        with pytest.raises(grpc.RpcError):
            server.extract("nope", [])
        server.wait_for_requests(Counter(), 1, method="Extract", code="NOT_FOUND")
        server.wait_for(Counter(), 1, "headwater_batch_size_count", backbone="tiny-image")
        scrape = {name for name, _ in server.scrape()}
    named = {name for expression in expressions() for name in NAME.findall(expression)}
    assert named <= scrape, named - scrape
    ours = {re.sub(r"_(bucket|sum|count)$", "", name) for name in scrape if re.match("headwater_", name)}
    shown = {re.sub(r"_(bucket|sum|count)$", "", name) for name in named}
    unseen = {name for name in ours - shown if not name.endswith("_created")}
    assert unseen == {"headwater_backbone_info"}  # it fills the variable of the backbones


def test_labels_are_those_of_the_metrics() -> None:
    """Filters and groupings name labels that some metric has; `instance` is Prometheus' own."""
    known = {"backbone", "instance", "method", "code", "outcome", "reason", "stage", "tier", "le"}
    for expression in expressions():
        filters = set(re.findall(r"[{,](\w+)(?:=~|!=|=)", expression))
        groups = {one.strip() for group in re.findall(r"by \(([^)]*)\)", expression) for one in group.split(",")}
        assert filters | groups <= known, expression
        assert expression.count("(") == expression.count(")")
        assert expression.count("{") == expression.count("}")


def test_it_has_what_grafana_needs_to_import_it() -> None:
    board = json.loads(FILE.read_text())
    assert {"title", "uid", "schemaVersion", "panels", "templating", "time"} <= set(board)
    assert board["id"] is None
    variables = {one["name"]: one for one in board["templating"]["list"]}
    assert set(variables) == {"datasource", "instance", "backbone"}
    assert (variables["datasource"]["type"], variables["datasource"]["query"]) == ("datasource", "prometheus")
    numbers = [panel["id"] for panel in board["panels"]]
    assert len(set(numbers)) == len(numbers)
    for panel in panels():
        assert panel["datasource"]["uid"] == "${datasource}"
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
    cells = [
        (x, y)
        for panel in board["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(set(cells)) == len(cells), "two panels overlap"


def test_the_command_prints_it() -> None:
    command = [sys.executable, "-m", "headwater", "dashboard"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == FILE.read_text()
