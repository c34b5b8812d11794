"""`words:FILE`: vectors of words, of Word2Vec, GloVe or fastText -> texts as the mean of their words' vectors.

Read are the text formats (with Word2Vec's and fastText's first line, or without, as GloVe has it) and Word2Vec's binary
one. The graph is a table to look up and a mean; words that the file does not have count for nothing, and a text of none
but such words is zero. (Mikolov et al., 2013; Pennington et al., 2014; Bojanowski et al., 2017.)
"""

import json
import re
from collections.abc import Mapping
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
    words, vectors = read_vectors(path, options.get("max_words"))
    lowercase = bool(options.get("lowercase", not any(word != word.lower() for word in words)))
    tokenizer = _tokenizer(words, lowercase)
    dim = vectors.shape[1]
    table = np.concatenate([np.zeros((_SPECIAL, dim), np.float32), vectors])
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
    try:
        with path.open("rb") as file:
            begin = file.readline(1 << 16)
            if begin.startswith(_FASTTEXT_BINARY):
                raise ExportError(f"{path} is fastText's .bin; take its .vec, which holds the vectors of whole words")
            counts = _COUNTS.fullmatch(begin)
            if counts is None:
                file.seek(0)
                return _text(path, file, len(begin.rstrip().split(b" ")) - 1, None, max_words)
            n_words, dim = int(counts[1]), int(counts[2])
            place = file.tell()
            as_text = _is_text(file.readline(1 << 20), dim)
            file.seek(place)
            read = _text if as_text else _binary
            return read(path, file, dim, n_words, max_words)
    except OSError as error:
        raise ExportError(f"{path} cannot be read: {error.strerror}") from None


def _is_text(line: bytes, dim: int) -> bool:
    """Tell whether a line is a word and so many numbers."""
    try:
        return len([float(one) for one in line.rstrip().rsplit(b" ", dim)[1:]]) == dim
    except ValueError:
        return False


def _text(
    path: Path, file: BinaryIO, dim: int, n_words: int | None, max_words: int | None
) -> tuple[list[str], NDArray[np.float32]]:
    found: dict[str, NDArray[np.float32]] = {}
    n_lines = 0
    for n_lines, line in enumerate(file, start=1):
        word, *numbers = line.rstrip().rsplit(b" ", dim)
        try:
            vector = np.array(numbers, np.float32)
        except ValueError:
            vector = np.empty(0, np.float32)
        if dim < 1 or len(vector) != dim:
            raise ExportError(
                f"{path}, line {n_lines}: no word with {dim} numbers; the file is cut short, or no vectors"
            )
        found.setdefault(word.decode("utf-8", "replace"), vector)
        if len(found) == max_words:
            break
    if max_words is None and n_words is not None and n_lines != n_words:
        raise ExportError(f"{path} has {n_lines:,} words, its first line says {n_words:,}: it was cut short")
    if not found:
        raise ExportError(f"{path} has no words in it")
    return list(found), np.stack(list(found.values()))


def _binary(
    path: Path, file: BinaryIO, dim: int, n_words: int, max_words: int | None
) -> tuple[list[str], NDArray[np.float32]]:
    n_taken = min(n_words, max_words or n_words)
    found: dict[str, NDArray[np.float32]] = {}
    for place in range(n_taken):
        word = bytearray()
        while (one := file.read(1)) not in (b" ", b""):
            word += one
        row = file.read(4 * dim)
        if len(row) != 4 * dim:
            raise ExportError(f"{path} ends after {place:,} of {n_words:,} words: it was cut short")
        found.setdefault(word.lstrip(b"\n").decode("utf-8", "replace"), np.frombuffer(row, "<f4").astype(np.float32))
    return list(found), np.stack(list(found.values()))


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
