"""`words:FILE`: Word2Vec, GloVe and fastText files, against means that are computed by hand; and what is refused."""

import struct
from pathlib import Path

import numpy as np
import pytest

from extractor import Extractor, zoo
from extractor.errors import ExportError
from extractor.export import export
from extractor.spec import read_spec
from extractor.zoo.choice import Choice
from extractor.zoo.word_vectors import read_vectors

WORDS = [".", "the", "cat", "dog", "sat", "mat", "ünder", "new"]
VECTORS = np.random.default_rng(0).normal(size=(len(WORDS), 5)).astype(np.float32)


def lines(words: list[str] = WORDS) -> str:
    rows = zip(words, VECTORS, strict=False)
    return "".join(f"{word} {' '.join(f'{value:.9g}' for value in vector)}\n" for word, vector in rows)


def glove(folder: Path) -> Path:
    path = folder / "glove.tiny.txt"
    path.write_text(lines(), encoding="utf-8")
    return path


def fasttext(folder: Path) -> Path:
    path = folder / "wiki.vec"
    path.write_text(f"{len(WORDS)} 5\n{lines()}", encoding="utf-8")
    return path


def word2vec(folder: Path, newline: bytes = b"\n") -> Path:
    path = folder / "news.bin"
    rows = [word.encode() + b" " + vector.tobytes() + newline for word, vector in zip(WORDS, VECTORS, strict=True)]
    path.write_bytes(b"%d 5\n" % len(WORDS) + b"".join(rows))
    return path


def mean(text: str) -> np.ndarray:
    rows = [WORDS.index(word) for word in text.split() if word in WORDS]
    return VECTORS[rows].mean(axis=0)


@pytest.mark.parametrize("write", [glove, fasttext, word2vec])
def test_a_text_is_the_mean_of_its_words(tmp_path: Path, write) -> None:  # noqa: ANN001  # one of the three above
    folder = export(f"words:{write(tmp_path)}", tmp_path / "out")
    spec = read_spec(folder)
    assert (spec.modality, spec.dim, spec.pooling) == ("text", 5, "mean")
    texts = [
        "the cat sat",
        "The CAT sat.",
        "cat",
        "the dog ünder the mat . . the end",
        "nothing known here",
        "cat " * 600,
    ]
    with Extractor.load(folder) as extractor:
        X = extractor.extract(texts)
        alone = np.concatenate([extractor.extract([text]) for text in reversed(texts)])[::-1]
        assert extractor.extract_each(texts)[-1].truncated
    expected = [mean(text.lower().replace("sat.", "sat .")) if i != 4 else np.zeros(5) for i, text in enumerate(texts)]
    np.testing.assert_allclose(X, expected, atol=1e-5)
    np.testing.assert_allclose(alone, expected, atol=1e-5)


def test_capitals_matter_where_the_file_has_them(tmp_path: Path) -> None:
    path = tmp_path / "cased.txt"
    path.write_text(lines(["the", "The", "cat"]), encoding="utf-8")
    for arguments, row in ((None, 1), ({"lowercase": True}, 0)):
        folder = export(f"words:{path}", tmp_path / "out", choice=Choice(arguments=arguments))
        with Extractor.load(folder) as extractor:
            np.testing.assert_allclose(extractor.extract(["The"]), VECTORS[[row]], atol=1e-6)


def test_the_first_words_are_taken_and_the_first_of_two(tmp_path: Path) -> None:
    words, vectors = read_vectors(word2vec(tmp_path, newline=b""), max_words=3)
    assert words == WORDS[:3]
    np.testing.assert_array_equal(vectors, VECTORS[:3])
    (tmp_path / "two.txt").write_text(lines(["a", "b", "a"]))
    words, vectors = read_vectors(tmp_path / "two.txt")
    assert words == ["a", "b"]
    np.testing.assert_allclose(vectors, VECTORS[:2], rtol=1e-6)


def test_a_file_that_is_no_vectors_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x"
    binary, text = word2vec(tmp_path).read_bytes(), fasttext(tmp_path).read_bytes()
    for content, said in (
        (binary[:-7], "ends after 7 of 8 words: it was cut short"),
        (text[:-30], "line 8: no word with 5 numbers"),
        (text.rpartition(b"new")[0], "has 7 words, its first line says 8: it was cut short"),
        (struct.pack("<ii", 793712314, 12) + b"\n", r"fastText's \.bin; take its \.vec"),
        (b"", "cut short, or no vectors|no words"),
        (b"\x00\x01\n\x02", "no word with"),
    ):
        path.write_bytes(content)
        with pytest.raises(ExportError, match=said):
            export(f"words:{path}", tmp_path / "out")
    with pytest.raises(ExportError, match="cannot be read: No such file"):
        read_vectors(tmp_path / "absent")
    assert not (tmp_path / "out").exists()


def test_there_is_nothing_to_choose(tmp_path: Path) -> None:
    for choice in (Choice(layers=["x"]), Choice(pooling="max"), Choice(modality="audio")):
        with pytest.raises(ExportError, match="have no layers"):
            zoo.build(f"words:{glove(tmp_path)}", choice)
    with pytest.raises(ExportError, match="not 'n_words'"):
        zoo.build(f"words:{glove(tmp_path)}", Choice(arguments={"n_words": 3}))
    with pytest.raises(ExportError, match="have no layers"):
        zoo.layers(f"words:{glove(tmp_path)}")
