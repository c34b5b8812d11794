import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headwater.errors import DataInvalid
from headwater.labelled import Columns, read_labelled


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_a_folder_has_a_folder_a_label(tmp_path: Path) -> None:
    for name in ("dog/b.jpg", "cat/2.jpg", "cat/1.jpg", "cat/.hidden", ".git/config", "cat/deeper/3.jpg"):
        write(tmp_path / name, "x")
    write(tmp_path / "README", "no item")
    found = read_labelled(tmp_path)
    assert found.labels == ["cat", "cat", "dog"]
    assert found.items == [tmp_path / "cat/1.jpg", tmp_path / "cat/2.jpg", tmp_path / "dog/b.jpg"]
    assert found.names == ["cat/1.jpg", "cat/2.jpg", "dog/b.jpg"]


def test_a_csv_may_hold_texts_with_commas_quotes_and_lines(tmp_path: Path) -> None:
    table = write(tmp_path / "t.csv", '\ufefftext,label\n"Where, ""please""?",a\n"two\nlines",b\n5" of,"two\nlines"')
    found = read_labelled(table)
    assert found.items == ['Where, "please"?', "two\nlines", '5" of']
    assert found.labels == ["a", "b", "two\nlines"]
    assert found.names == ["t.csv:2", "t.csv:4", "t.csv:6"]


def test_a_table_may_name_files_beside_it(tmp_path: Path) -> None:
    table = write(tmp_path / "t.ndjson", '{"path": "pets/1.jpg", "label": "cat"}\n\n{"path": "/abs.jpg", "label": 7}\n')
    found = read_labelled(table)
    assert found.items == [tmp_path / "pets/1.jpg", Path("/abs.jpg")]
    assert found.labels == ["cat", "7"]
    assert found.names == ["t.ndjson:1", "t.ndjson:3"]


def test_columns_may_be_named(tmp_path: Path) -> None:
    table = write(tmp_path / "t.csv", "question,category\nhow?,a\n")
    found = read_labelled(table, columns=Columns("category", "question"))
    assert (found.items, found.labels) == (["how?"], ["a"])


def test_a_parquet_file_is_a_table_too(tmp_path: Path) -> None:
    table = pa.table({"text": ["how?", "ä"], "label": ["a", "b"], "camera": [1, 2]})
    pq.write_table(table, tmp_path / "t.parquet")
    found = read_labelled(tmp_path / "t.parquet", columns=Columns(group="camera"))
    assert (found.items, found.labels, found.groups) == (["how?", "ä"], ["a", "b"], ["1", "2"])
    assert found.names == ["t.parquet:1", "t.parquet:2"]


def test_several_labels_are_a_list_or_a_cell_with_bars(tmp_path: Path) -> None:
    table = write(tmp_path / "t.csv", "text,label\nx,a|b\ny,\nz, b |a|b\n")
    assert read_labelled(table, kind="multi").labels == [("a", "b"), (), ("b", "a")]
    table = write(tmp_path / "t.jsonl", '{"text": "x", "label": ["a", "b|c"]}\n{"text": "y", "label": []}\n')
    assert read_labelled(table, kind="multi").labels == [("a", "b|c"), ()]
    pq.write_table(pa.table({"text": ["x", "y"], "label": [["a"], []]}), tmp_path / "t.parquet")
    assert read_labelled(tmp_path / "t.parquet", kind="multi").labels == [("a",), ()]


def test_numbers_are_numbers(tmp_path: Path) -> None:
    table = write(tmp_path / "t.csv", "text,label\nx,1.5\ny,-2\n")
    assert read_labelled(table, kind="regression").labels == [1.5, -2.0]
    for bad in ("much", "nan", "inf"):
        with pytest.raises(DataInvalid, match=f"line 2 has the label '{bad}'"):
            read_labelled(write(tmp_path / "t.csv", f"text,label\nx,{bad}\n"), kind="regression")
    with pytest.raises(DataInvalid, match="has no column 'camera'; groups need a table"):
        read_labelled(tmp_path, columns=Columns(group="camera"))
    with pytest.raises(DataInvalid, match="regression needs a table"):
        read_labelled(tmp_path, kind="regression")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("t.csv", "text,label\nx,\n", r"line 2 has nothing in its column 'label'"),
        ("t.csv", "text,label\n,a\n", r"line 2 has nothing in its column 'text'"),
        ("t.csv", "text,category\nx,a\n", r"line 2 has no 'label', only 'text', 'category'; .*--label-column"),
        ("t.csv", "text,label\n", "has no labelled item"),
        ("t.csv", "", "has no labelled item"),
        ("t.csv", b"text,label\n\xff,a\n", r"is not UTF-8"),
        ("t.csv", "text,label\n" + '"' + "x" * ((16 << 20) + 1) + '",a\n', "line [12]: field larger"),
        ("t.csv", 'text,label\n"x,a\ny,b\n', "line 2: nothing closes a quote"),
        ("t.jsonl", '{"text": "x"\n', "line 1 is not JSON"),
        ("t.jsonl", "[1]\n", "line 1 is no object"),
        ("t.jsonl", "[" * 100_000, "line 1 is not JSON"),
        ("t.txt", "x", "neither a folder nor a table"),
        ("t.parquet", "PAR1x", "is no Parquet file"),
    ],
)
def test_what_cannot_be_understood_is_named(tmp_path: Path, name: str, content: str | bytes, words: str) -> None:
    with pytest.raises(DataInvalid, match=words):
        read_labelled(write(tmp_path / name, content))


def test_a_text_may_be_as_long_as_a_text_may_be(tmp_path: Path) -> None:
    table = write(tmp_path / "t.csv", f"text,label\n{'x' * 1_000_000},a\n")
    assert len(str(read_labelled(table).items[0])) == 1_000_000


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataInvalid, match="cannot be read: No such file"):
        read_labelled(tmp_path / "gone.csv")
    with pytest.raises(DataInvalid, match="has no labelled item"):
        read_labelled(tmp_path)


def test_a_line_that_is_json_and_more_is_kept(tmp_path: Path) -> None:
    table = write(tmp_path / "t.jsonl", json.dumps({"text": "ä €", "label": "a", "more": [1]}))
    assert read_labelled(table).items == ["ä €"]


def test_folders_that_label_nothing_are_told(tmp_path: Path) -> None:
    for name in ("cat/1.jpg", "cat/deeper/2.jpg", "dog/1.jpg", "bird/.hidden"):
        write(tmp_path / name, "x")
    assert read_labelled(tmp_path).notes == [
        "folders without a file, which are no labels: bird",
        "folders within those of labels, which were left out: cat/deeper",
    ]


def test_a_label_has_to_be_one_text(tmp_path: Path) -> None:
    with pytest.raises(DataInvalid, match=r"line 1 has several labels, \['a', 'b'\]; take --kind multi"):
        read_labelled(write(tmp_path / "t.jsonl", '{"text": "x", "label": ["a", "b"]}\n'))
    with pytest.raises(DataInvalid, match=r"line 1 has nothing in its column 'label'"):
        read_labelled(write(tmp_path / "t.jsonl", '{"text": "x", "label": NaN}\n'))
    with pytest.raises(DataInvalid, match=r"line 1 has the label .* no text in UTF-8; rename it"):
        read_labelled(write(tmp_path / "t.jsonl", r'{"text": "x", "label": "\ud800"}'))
    (tmp_path / "data" / "caf\udce9").mkdir(parents=True)
    write(tmp_path / "data" / "caf\udce9" / "1.txt", "x")
    with pytest.raises(DataInvalid, match="no text in UTF-8"):
        read_labelled(tmp_path / "data")


def test_a_line_with_more_cells_than_columns_is_told_and_empty_ones_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("text,label\nred,a,\nred, or blue,b\n")
    with pytest.raises(DataInvalid, match="line 3 has 1 cells more than there are columns; put quotes"):
        read_labelled(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text('text,label\nred,a,\n"red, or blue",b\n')
    assert read_labelled(tmp_path / "t.csv").items == ["red", "red, or blue"]
