"""What DuckDB, pandas, polars and `datasets` make of a dump: the README's lines, each in a process of its own."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from textwrap import indent

import pytest

from extractor import Extractor
from extractor.dump import dump, retry_errors
from extractor.sources import open_source
from tests.test_layers import ROOT
from tests.tiny import flat, png

N, FIRST = 9, 5  # rows in all, and of the first run
PYTHON = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
PICTURES = [f"{i}.png" for i in range(N)]

# How what the README's lines read is asked for all rows, and for the embeddings of those without an error.
READERS = {
    "duckdb": (
        "duckdb.sql(\"SELECT * FROM 'embedded/part-*.parquet'\").to_arrow_table().to_pylist()",
        "duckdb.sql(\"SELECT embedding FROM 'embedded/part-*.parquet' WHERE error IS NULL\").fetchnumpy()['embedding']",
    ),
    "pandas": (
        "frame.astype(object).where(frame.notna(), None).to_dict('records')",
        "frame.embedding[frame.error.isna()]",
    ),
    "polars": (
        "polars.read_parquet('embedded/part-*.parquet').to_dicts()",
        "X[~numpy.isnan(X).any(axis=1)]",
    ),
    "datasets": (
        "data.with_format(None).to_list()",
        "data.filter(lambda row: row['error'] is None, load_from_cache_file=False)['embedding'][:]",
    ),
}
TOLD = "told: "
ASK = """
import json, numpy
X = numpy.stack([*{embeddings}])
rows = [[row[name] for name in ("key", "label", "page")] + [row["error"] is None] for row in {rows}]
print("{told}" + json.dumps([rows, X.astype(float).tolist()]))
"""


def write_table(folder: Path, n: int) -> Path:
    """Write rows of which each has a page, two have no picture, and one has no label."""
    lines = [f"{name},{'' if i == 3 else 'ab'[i % 2]},p{i}" for i, name in enumerate(PICTURES[:n])]
    (folder / "t.csv").write_text("\n".join(["path,label,page", *lines]) + "\n")
    return folder / "t.csv"


@pytest.fixture(scope="module")
def folders(tiny_image: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Folders with a dump, `embedded`, that was gone on with, and of which a shard superseded another."""
    made = [tmp_path_factory.mktemp(dtype) for dtype in ("float32", "float16")]
    with Extractor.load(tiny_image, cache="off") as extractor:
        for folder in made:
            for i, name in enumerate(PICTURES):
                (folder / name).write_bytes(b"no picture" if i in (1, 6) else png(flat(10 * i, 7)))
            for n in (FIRST, N):
                dump(open_source(write_table(folder, n)), folder / "embedded", extractor, dtype=folder.name[:7])
            (folder / PICTURES[6]).write_bytes(png(flat(60, 7)))
            retry_errors(open_source(folder / "t.csv"), folder / "embedded", extractor)
    return made


def test_the_dumps_are_of_two_shards_one_of_which_superseded_another(folders: list[Path]) -> None:
    for folder in folders:
        found = sorted(one.name for one in (folder / "embedded").glob("*.parquet"))
        assert found == ["part-00000.parquet", "part-00001-r1.parquet"]


@pytest.mark.parametrize("reader", READERS)
def test_the_readmes_lines_read_a_dump(reader: str, folders: list[Path], tmp_path: Path) -> None:
    (lines,) = [block for block in PYTHON if f"import {reader}\n" in block]
    rows, embeddings = READERS[reader]
    body = "os.chdir(folder)\n" + lines + ASK.format(rows=rows, embeddings=embeddings, told=TOLD)
    code = "import os, sys\nfor folder in sys.argv[1:]:\n" + indent(body, " ")
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code, *folders], env=environment, capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = [json.loads(line[len(TOLD) :]) for line in done.stdout.splitlines() if line.startswith(TOLD)]
    assert len(told) == len(folders)
    for found, X in told:
        assert found == [[name, None if i == 3 else "ab"[i % 2], f"p{i}", i != 1] for i, name in enumerate(PICTURES)]
        assert [[10 * i, 7, 0] for i in range(N) if i != 1] == X
