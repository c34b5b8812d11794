"""What DuckDB, pandas, polars and `datasets` make of a dump: the README's lines, each in a process of its own."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from extractor import Extractor
from extractor.dump import dump, retry_errors
from extractor.sources import open_source
from tests.tiny import flat, png

N, FIRST = 9, 5  # rows in all, and of the first run
PICTURES = [f"{i}.png" for i in range(N)]

# The lines that the README shows; and how their table is asked for all rows, and for the embeddings of the good ones.
READERS = {
    "duckdb": (
        """import duckdb
found = duckdb.sql("SELECT * FROM 'embedded/part-*.parquet'")""",
        "found.to_arrow_table().to_pylist()",
        "duckdb.sql('SELECT embedding FROM found WHERE error IS NULL').fetchnumpy()['embedding']",
    ),
    "pandas": (
        """import pandas, pathlib
frame = pandas.read_parquet(sorted(pathlib.Path("embedded").glob("part-*.parquet")))""",
        "frame.astype(object).where(frame.notna(), None).to_dict('records')",
        "frame.embedding[frame.error.isna()]",
    ),
    "polars": (
        """import polars
frame = polars.read_parquet("embedded/part-*.parquet")  # frame["embedding"].to_numpy() is (n, dim)""",
        "frame.to_dicts()",
        "frame.filter(polars.col('error').is_null())['embedding'].to_numpy()",
    ),
    "datasets": (
        """import datasets
data = datasets.load_dataset("parquet", data_files="embedded/part-*.parquet", split="train").with_format("numpy")""",
        "data.with_format(None).to_list()",
        "data.filter(lambda row: row['error'] is None, load_from_cache_file=False)['embedding'][:]",
    ),
}
ASK = """
import json, numpy
X = numpy.stack([*{embeddings}])
rows = [[row[name] for name in ("key", "label", "page")] + [row["error"] is None] for row in {rows}]
print("\\n" + json.dumps([rows, X.astype(float).tolist()]))
"""


def write_table(folder: Path, n: int) -> Path:
    """Write rows of which each has a page, two have no picture, and one has no label."""
    lines = [f"{name},{'' if i == 3 else 'ab'[i % 2]},p{i}" for i, name in enumerate(PICTURES[:n])]
    (folder / "t.csv").write_text("\n".join(["path,label,page", *lines]) + "\n")
    return folder / "t.csv"


@pytest.fixture(scope="module", params=["float32", "float16"])
def folder(request: pytest.FixtureRequest, tiny_image: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a dump, `embedded`, that was gone on with, and of which a shard superseded another."""
    made = tmp_path_factory.mktemp("read")
    for i, name in enumerate(PICTURES):
        (made / name).write_bytes(b"no picture" if i in (1, 6) else png(flat(10 * i, 7)))
    with Extractor.load(tiny_image, cache="off") as extractor:
        for n in (FIRST, N):
            dump(open_source(write_table(made, n)), made / "embedded", extractor, dtype=request.param)
        (made / PICTURES[6]).write_bytes(png(flat(60, 7)))
        retry_errors(open_source(made / "t.csv"), made / "embedded", extractor)
    return made


def test_the_dump_is_of_two_shards_one_of_which_superseded_another(folder: Path) -> None:
    assert sorted(one.name for one in (folder / "embedded").glob("*.parquet")) == [
        "part-00000.parquet",
        "part-00001-r1.parquet",
    ]


@pytest.mark.parametrize("reader", READERS)
def test_what_the_readme_names_reads_a_dump(reader: str, folder: Path, tmp_path: Path) -> None:
    if find_spec(reader) is None:  # not imported here: it stays in its own process
        pytest.skip(f"{reader} is not installed")
    lines, rows, embeddings = READERS[reader]
    assert len(lines.splitlines()) == 2
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    code = lines + ASK.format(rows=rows, embeddings=embeddings)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found, X = json.loads(done.stdout.splitlines()[-1])
    assert found == [[name, None if i == 3 else "ab"[i % 2], f"p{i}", i != 1] for i, name in enumerate(PICTURES)]
    assert X == [[10 * i, 7, 0] for i in range(N) if i != 1]
