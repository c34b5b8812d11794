"""`words:FILE`: vectors of words, of Word2Vec, GloVe or fastText -> texts as the mean of their words' vectors.

Read are the text formats (with Word2Vec's and fastText's first line, or without, as GloVe has it) and Word2Vec's binary
one. The graph is a table to look up and a mean; words that the file does not have count for nothing, and a text of none
but such words is zero. (Mikolov et al., 2013; Pennington et al., 2014; Bojanowski et al., 2017.)
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, cast

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from extractor.errors import ExportError
from extractor.outcome import Embedding
from extractor.recipes import TextPreprocess
from extractor.spec import MASK, TOKENIZER_FILE, Input, sha256
from extractor.zoo.choice import Choice
from extractor.zoo.front import recipe_of
from extractor.zoo.golden import TEXTS
from extractor.zoo.layer import Layer
from extractor.zoo.network import Network, backbone_name
from extractor.zoo.onnx_save import save_onnx

MAX_TOKENS = 512
OPSET = 17
_UNKNOWN, _BEGIN = "\ue000unknown", "\ue000begin"  # of a private plane: no file has them
_SPECIAL = 2  # rows before the words': an unknown word, and the beginning, by which no text is without tokens
_FASTTEXT_BINARY = b"\xba\x16O/"  # 793712314, the first number of fastText's .bin
_COUNTS = re.compile(rb"\s*(\d+)\s+(\d+)\s*")
_LONGEST_WORD, _LONGEST_LINE = 1 << 16, 1 << 20  # bytes
_LENGTHS = (1, 2, 3, 7, 20, 60, 200)  # of made-up texts, in words
_UNSPOKEN = 1e-9  # by which a text of no known word is divided


@dataclass(frozen=True, eq=False, kw_only=True)
class WordVectors(Network):
    """A table of vectors; see `Network` for the rest.

    Parameters
    ----------
    table : ndarray of shape (n_words + 2, dim), float32
        The first two rows, for unknown words and for the beginning, are zero.
    """

    framework: ClassVar[str] = "NumPy"

    table: NDArray[np.float32]

    def reference(self, inputs: Mapping[str, NDArray[Any]]) -> Embedding:
        """Return the mean of one text's known words (1, dim)."""
        ids = inputs["input_ids"][0]
        known = ids[(ids >= _SPECIAL) & (inputs[MASK][0] == 1)]
        if not len(known):
            return np.zeros((1, self.dim), np.float32)
        mean: Embedding = self.table[known].mean(axis=0, dtype=np.float64, keepdims=True).astype(np.float32)
        return mean

    def write_onnx(self, path: Path) -> None:
        """Write the table, a look-up and a mean."""
        save_onnx(_graph(self.name, self.table), path)


def build(reference: str, choice: Choice) -> WordVectors:
    """Read a file of vectors.

    Parameters
    ----------
    reference : str
        The file's path.
    choice : Choice
        `arguments` may say `max_words`, how many of the file's first, which are the most frequent, are taken; and
        `lowercase`, by default true where no word of the file has a capital.

    Raises
    ------
    ExportError
        The file is missing, not of these formats or cut short.
    """
    path = Path(reference)
    if choice.layers or choice.pooling not in (None, "mean") or choice.modality not in (None, "text"):
        raise ExportError("vectors of words have no layers: texts become the mean of their words")
    options = dict(choice.arguments or {})
    if unknown := options.keys() - {"max_words", "lowercase"}:
        raise ExportError(f"words: takes max_words and lowercase in --arguments, not {sorted(unknown)[0]!r}")
    words, table = _read_table(path, options.get("max_words"))
    lowercase = bool(options.get("lowercase", not any(word != word.lower() for word in words)))
    tokenizer = _tokenizer(words, lowercase)
    dim = table.shape[1]
    tokens = Input("int64", ("batch", "tokens"))
    return WordVectors(
        name=backbone_name(choice.name or path.stem),
        modality="text",
        dim=dim,
        pooling="mean",
        input={"input_ids": tokens, MASK: tokens},
        preprocess=cast(TextPreprocess, recipe_of("text", {"max_tokens": MAX_TOKENS} | dict(choice.preprocess or {}))),
        source=f"{choice.source or path.name}; SHA-256 {sha256(path)}; {len(words)} words",
        licence=choice.licence,
        golden_items=choice.items or _items(words, tokenizer),
        files={TOKENIZER_FILE: tokenizer},
        table=table,
    )


def layers(_reference: str, _choice: Choice) -> list[Layer]:
    """Refuse: there are none."""
    raise ExportError("vectors of words have no layers: texts become the mean of their words")


def read_vectors(path: Path, max_words: int | None = None) -> tuple[list[str], NDArray[np.float32]]:
    """Return words and vectors (n_words, dim) of a file; of words that come twice, the first.

    Raises
    ------
    ExportError
        As `build` does.
    """
    words, table = _read_table(path, max_words)
    return words, table[_SPECIAL:]


def _read_table(path: Path, max_words: int | None) -> tuple[list[str], NDArray[np.float32]]:
    """Return words, and their vectors behind those of the special tokens (n_words + 2, dim)."""
    if max_words is not None and (type(max_words) is not int or max_words < 1):
        raise ExportError(f"max_words is {max_words!r} in --arguments; take a positive integer")
    try:
        with path.open("rb") as file:
            return _read(path, file, max_words)
    except OSError as error:
        raise ExportError(f"{path} cannot be read: {error.strerror}; name a file of vectors: words:FILE") from None


def _read(path: Path, file: BinaryIO, max_words: int | None) -> tuple[list[str], NDArray[np.float32]]:
    begin = file.readline(_LONGEST_WORD)
    if begin.startswith(_FASTTEXT_BINARY):
        raise ExportError(f"{path} is fastText's .bin; take its .vec, which holds the vectors of whole words")
    counts = _COUNTS.fullmatch(begin)
    if counts is None:
        file.seek(0)
        return _text(path, file, len(begin.rstrip().split(b" ")) - 1, None, max_words)
    n_words, dim = int(counts[1]), int(counts[2])
    if not dim or min(n_words, max_words or n_words) * dim > path.stat().st_size:
        raise ExportError(f"{path} is too short for {n_words:,} words of {dim:,} numbers each: it was cut short")
    place = file.tell()
    as_text = _is_text(file.readline(_LONGEST_LINE), dim)
    file.seek(place)
    return (_text if as_text else _binary)(path, file, dim, n_words, max_words)


def _is_text(line: bytes, dim: int) -> bool:
    """Tell whether a line is a word and so many numbers."""
    try:
        return len([float(one) for one in line.rstrip().rsplit(b" ", dim)[1:]]) == dim
    except ValueError:
        return False


class _Rows:
    """Words and vectors as they are read, in one piece of memory that grows: files have gigabytes."""

    def __init__(self, path: Path, dim: int) -> None:
        self._path = path
        self._dim = dim
        self._numbers = bytearray(4 * _SPECIAL * dim)
        self.words: dict[str, None] = {}

    def add(self, word: bytes, vector: NDArray[np.float32]) -> None:
        """Keep a word's vector, unless it has one; raise ExportError where that is no numbers."""
        text = word.decode("utf-8", "replace")
        if not np.isfinite(vector).all():
            raise ExportError(f"{self._path} has NaN or infinity in the vector of {text[:40]!r}; leave that word out")
        if text not in self.words:
            self.words[text] = None
            self._numbers += vector.astype("<f4").tobytes()

    def table(self) -> tuple[list[str], NDArray[np.float32]]:
        """Return the words, and the vectors behind two of zeros."""
        if not self.words:
            raise ExportError(f"{self._path} has no words in it")
        return list(self.words), np.frombuffer(self._numbers, "<f4").reshape(-1, self._dim)


def _text(
    path: Path, file: BinaryIO, dim: int, n_words: int | None, max_words: int | None
) -> tuple[list[str], NDArray[np.float32]]:
    rows = _Rows(path, dim)
    n_lines = 0
    for n_lines, line in enumerate(iter(lambda: file.readline(_LONGEST_LINE), b""), start=1):
        word, *numbers = line.rstrip().rsplit(b" ", dim)
        vector = _floats(numbers)
        if dim < 1 or len(vector) != dim:
            raise ExportError(
                f"{path}, line {n_lines}: no word with {dim} numbers; the file is cut short, or no vectors"
            )
        rows.add(word, vector)
        if len(rows.words) == max_words:
            break
    if max_words is None and n_words is not None and n_lines != n_words:
        raise ExportError(f"{path} has {n_lines:,} words, its first line says {n_words:,}: it was cut short")
    return rows.table()


def _floats(numbers: Sequence[bytes]) -> NDArray[np.float32]:
    """Return numbers, infinite ones where float32 holds them not; none where one is no number."""
    try:
        with np.errstate(over="ignore"):
            return np.array(numbers, np.float32)
    except ValueError:
        return np.empty(0, np.float32)


def _binary(
    path: Path, file: BinaryIO, dim: int, n_words: int, max_words: int | None
) -> tuple[list[str], NDArray[np.float32]]:
    rows = _Rows(path, dim)
    for place in range(min(n_words, max_words or n_words)):
        word = bytearray()
        while (one := file.read(1)) not in (b" ", b"") and len(word) < _LONGEST_WORD:
            word += one
        numbers = file.read(4 * dim)
        if len(numbers) != 4 * dim:
            raise ExportError(f"{path} ends after {place:,} of {n_words:,} words: it was cut short")
        rows.add(bytes(word.lstrip(b"\n")), np.frombuffer(numbers, "<f4"))
    return rows.table()


def _tokenizer(words: list[str], lowercase: bool) -> bytes:
    """Return a tokenizer of whole words, which begins each text with a token that counts for nothing."""
    names = [_UNKNOWN, _BEGIN, *words]
    tokenizer = Tokenizer(models.WordLevel({word: row for row, word in enumerate(names)}, unk_token=_UNKNOWN))
    steps = [normalizers.NFC(), *([normalizers.Lowercase()] if lowercase else [])]
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()  # words, and signs by themselves
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{_BEGIN} $A", special_tokens=[(_BEGIN, 1)])
    return json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False).encode()


def _items(words: list[str], tokenizer: bytes) -> list[bytes]:
    """Return texts that hold words of the file, since a zero has no angle to compare; of many lengths."""
    made_up = [" ".join(words[start : start + n]) for start, n in enumerate(_LENGTHS)]
    encode = Tokenizer.from_str(tokenizer.decode()).encode
    known = [text for text in (*TEXTS, *made_up) if any(token >= _SPECIAL for token in encode(text).ids)]
    if not known:
        raise ExportError("no text of the file's own words can be read back; is it a file of words and numbers?")
    return [text.encode() for text in known]


def _graph(name: str, table: NDArray[np.float32]) -> Any:
    """Return the sum of the rows over the number of known words, of which there is at least a billionth."""
    constants = {
        "first_word": np.array(_SPECIAL, np.int64),
        "last_axis": np.array([2], np.int64),
        "tokens_axis": np.array([1], np.int64),
        "unspoken": np.array(_UNSPOKEN, np.float32),
    }
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["vectors"]),
        helper.make_node("Less", ["input_ids", "first_word"], ["special"]),
        helper.make_node("Not", ["special"], ["word"]),
        helper.make_node("Cast", ["word"], ["counted"], to=TensorProto.FLOAT),
        helper.make_node("Cast", [MASK], ["there"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["counted", "there"], ["weights"]),
        helper.make_node("Unsqueeze", ["weights", "last_axis"], ["column"]),
        helper.make_node("Mul", ["vectors", "column"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "tokens_axis"], ["sum"], keepdims=0),
        helper.make_node("ReduceSum", ["weights", "tokens_axis"], ["count"], keepdims=1),
        helper.make_node("Max", ["count", "unspoken"], ["divisor"]),
        helper.make_node("Div", ["sum", "divisor"], ["embeddings"]),
    ]
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info(one, TensorProto.INT64, ["batch", "tokens"]) for one in ("input_ids", MASK)],
        [helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, ["batch", table.shape[1]])],
        [numpy_helper.from_array(value, key) for key, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    rows = model.graph.initializer.add(name="table", data_type=TensorProto.FLOAT, dims=table.shape)
    rows.raw_data = table.astype("<f4", copy=False).tobytes()  # last, for each call above copies what it is given
    return model
