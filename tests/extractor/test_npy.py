"""Arrays as items: what is read, what is cast, what is refused, and that lengths never mix where padding would show."""

import io
from pathlib import Path

import numpy as np
import pytest

from extractor import Extractor
from extractor.backbone import collate
from extractor.decode.npy import decode_npy
from extractor.errors import ItemTooLarge, UndecodableItem
from extractor.limits import Limits
from extractor.preprocess.array import fit_array
from extractor.recipes import ArrayPreprocess
from extractor.spec import read_spec
from tests.tiny import npy

PAIR = ArrayPreprocess(dtype="float32", shape=(2, 3))


@pytest.mark.parametrize("dtype", ["<f4", ">f8", "f2", "?", "i1", ">i4", "u8"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 0)])
def test_an_array_survives(dtype: str, shape: tuple[int, ...]) -> None:
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    found = decode_npy(npy(array))
    np.testing.assert_array_equal(found, array)
    assert (found.shape, found.dtype) == (shape, np.dtype(dtype).newbyteorder("="))


def test_fortran_order_and_newer_headers_are_read() -> None:
    array = np.asfortranarray(np.arange(6).reshape(2, 3))
    np.testing.assert_array_equal(decode_npy(npy(array)), array)
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, version=(2, 0))
    np.testing.assert_array_equal(decode_npy(buffer.getvalue()), array)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"PK\x03\x04", "no .npy array: 4 bytes"),
        (npy(np.ones(9))[:-1], r"float64 \(9,\) takes 72 bytes, and has 71"),
        (npy(np.ones(9)) + b"x", r"takes 72 bytes, and has 73"),
        (npy(np.ones(9))[:20], "damaged or cut short"),
        (npy(np.ones(9)).replace(b"(9,)", b"(99999999999999,)"), "damaged|takes"),
        (npy(np.array(["a"])), "of <U1; as an item"),
        (npy(np.array([1j])), "of complex128"),
        (b"\x93NUMPY\x01\x00\x10\x00__import__('os')", "damaged"),
    ],
)
def test_what_is_no_array_of_numbers_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(UndecodableItem, match=message):
        decode_npy(data)


def test_objects_are_refused_before_anything_is_unpickled(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple:
            return Path.touch, (tmp_path / "ran",)

    buffer = io.BytesIO()
    np.save(buffer, np.array([Bomb()], object), allow_pickle=True)
    with pytest.raises(UndecodableItem, match="of object"):
        decode_npy(buffer.getvalue())
    assert not (tmp_path / "ran").exists()


def test_a_dtype_is_cast_where_nothing_is_lost_and_floats_always() -> None:
    for dtype in ("float64", "float16", "uint8", "bool", "int16"):
        found = fit_array(np.ones((2, 3), dtype), PAIR)
        assert (found.dtype, found.sum()) == (np.float32, 6)
    for dtype in ("int64", "uint32"):
        with pytest.raises(UndecodableItem, match=f"is of {dtype}, the backbone takes float32; cast it"):
            fit_array(np.ones((2, 3), dtype), PAIR)
    with pytest.raises(UndecodableItem, match="is of float32, the backbone takes uint8"):
        fit_array(np.ones((2, 3), np.float32), ArrayPreprocess(dtype="uint8", shape=(2, 3)))


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_values_that_are_not_finite_are_refused(value: float) -> None:
    with pytest.raises(UndecodableItem, match="NaN, or values beyond what float32 holds"):
        fit_array(np.full((2, 3), value), PAIR)


@pytest.mark.parametrize(
    ("spec", "shape", "message"),
    [
        ((2, 3), (3, 2), r"is \(3, 2\), the backbone takes \(2, 3\); send such a one$"),
        ((2, 3), (1, 2, 3), "takes"),
        (("time", 3), (10, 3), r"takes \(time, 3\) with time from 2 to 9; send such a one$"),
        (("time", 3), (1, 3), "from 2 to 9"),
        (("time", 3), (5, 4), "from 2 to 9"),
        (("time",), (), r"is \(\), the backbone takes \(time,\)"),
    ],
)
def test_another_shape_is_refused_with_both(spec: tuple, shape: tuple, message: str) -> None:
    facts = ArrayPreprocess(dtype="float32", shape=spec, min_length=2, max_length=9)
    with pytest.raises(UndecodableItem, match=message):
        fit_array(np.ones(shape), facts)


def test_arrays_go_through_the_whole_pipeline(tiny_array: Path, tmp_path: Path) -> None:
    arrays = np.random.default_rng(0).normal(size=(40, 2, 3))
    np.save(tmp_path / "one.npy", arrays[0])
    with Extractor.load(tiny_array, cache="memory") as extractor:
        X = extractor.extract(arrays)
        np.testing.assert_allclose(X, arrays.mean(axis=1), atol=1e-6)
        again, bad, name = extractor.extract_each([tmp_path / "one.npy", arrays[0, :1], "one.npy"])
        assert again.cached
        np.testing.assert_array_equal(again.embedding, X[0])
        assert isinstance(bad.error, UndecodableItem)
        assert "a file's name goes as a pathlib.Path" in str(name.error)
    with Extractor.load(tiny_array, limits=Limits(max_item_bytes=100)) as extractor:
        (outcome,) = extractor.extract_each([arrays[0]])
        assert isinstance(outcome.error, ItemTooLarge)


def test_lengths_never_share_a_forward_where_the_graph_knows_no_padding(tiny_series: Path) -> None:
    spec = read_spec(tiny_series)
    assert (spec.varies, spec.pads) == (True, False)
    draw = np.random.default_rng(0)
    arrays = [-draw.random((n, 2)).astype(np.float32) for n in draw.integers(1, 10, 100)]
    with Extractor.load(tiny_series, workers=1) as extractor:
        sizes: list[int] = []
        extractor.on_batch(lambda facts: sizes.append(facts.n_items))
        X = extractor.extract(arrays)
        direct = extractor.backbone.forward(arrays)
    np.testing.assert_array_equal(X, [[*one.max(axis=0), len(one), len(one)] for one in arrays])
    np.testing.assert_array_equal(direct, X)
    assert max(sizes) > 1
    with pytest.raises(ValueError, match="same shape"):
        collate(spec, arrays)
