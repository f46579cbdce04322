from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest
from bundle_factory import npy
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from isthmus.errors import InvalidInput
from isthmus.inference.processing import decode_raw, postprocess, preprocess
from isthmus.model.processing import Affine, Cast, Decode, Normalize, Reshape, Softmax, TopK, Transpose


def idx(array: np.ndarray, code: int) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, code, array.ndim, *array.shape) + array.tobytes()


def test_reads_idx_also_gzipped() -> None:
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    decode = Decode(format="idx", dtype="uint8")
    assert (decode_raw(idx(pixels, 0x08), decode, "train") == pixels).all()
    assert (decode_raw(gzip.compress(idx(pixels, 0x08)), decode, "train.gz") == pixels).all()


@pytest.mark.parametrize(
    ("code", "dtype"), [(0x09, ">i1"), (0x0B, ">i2"), (0x0C, ">i4"), (0x0D, ">f4"), (0x0E, ">f8")]
)
def test_reads_every_idx_type(code: int, dtype: str) -> None:
    array = np.array([-3, 5], dtype)
    assert decode_raw(idx(array, code), Decode(format="idx", dtype="float64"), "f").tolist() == [-3.0, 5.0]


def test_csv_takes_a_half_open_range_of_columns() -> None:
    decode = Decode(format="csv", dtype="int64", columns=(1, 3))
    assert decode_raw(b"1,2,3,4\n5,6,7,8\n", decode, "f.csv").tolist() == [[2, 3], [6, 7]]


@given(
    hnp.arrays(st.sampled_from([np.uint8, np.int32, np.float32, np.float64]), hnp.array_shapes(max_dims=4))
)
def test_npy_round_trip(array: np.ndarray) -> None:
    back = decode_raw(npy(array), Decode(format="npy", dtype=str(array.dtype)), "f.npy")
    np.testing.assert_array_equal(back, array)


@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_keeps_the_memory_order(order: str) -> None:
    array = np.array([[1.0, 2.0], [3.0, 4.0]], order=order)
    assert decode_raw(npy(array), Decode(format="npy", dtype="float64"), "f").tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("data", "decode", "path", "says"),
    [
        (b"", Decode(format="csv"), "a.csv", "a.csv is empty"),
        (b"1,x\n", Decode(format="csv"), "a.csv", "not a table of float32"),
        (b"1,2\n3\n", Decode(format="csv"), "a.csv", "not a table"),
        (b"1,2\n", Decode(format="csv", columns=(1, 9)), "a.csv", "not a table"),
        (b"1,2\n", Decode(format="csv", columns=(2, 1)), "a.csv", "half-open"),
        (b"300\n", Decode(format="csv", dtype="uint8"), "a.csv", "a.csv"),
        (b"\xff\xfe", Decode(format="csv"), "a.csv", "not a table"),
        (b"\0\0\x08", Decode(format="idx"), "a", "not an IDX file"),
        (b"\x89PNG\r\n", Decode(format="idx"), "a", "begins with 89504e47"),
        (idx(np.zeros(9, np.uint8), 8)[:-1], Decode(format="idx"), "a", "17 bytes, not 16"),
        (idx(np.zeros(9, np.uint8), 8) + b"x", Decode(format="idx"), "a", "17 bytes, not 18"),
        (b"nonsense", Decode(format="npy"), "a.npy", "not an npy file"),
        (npy(np.zeros(4))[:-1], Decode(format="npy"), "a.npy", "bytes, not"),
        (npy(np.array(["2020"], "M8[D]")), Decode(format="npy"), "a.npy", "array of numbers"),
        (npy(np.array(["text"])), Decode(format="npy"), "a.npy", "array of numbers"),
        (npy(np.float32(3)), Decode(format="npy"), "a.npy", "single number"),
        (npy(np.array([1.5, np.nan])), Decode(format="npy", dtype="uint8"), "a", "uint8 cannot hold"),
        (npy(np.array([256])), Decode(format="npy", dtype="uint8"), "a", "256"),
        (b"no gzip", Decode(format="idx"), "a.gz", "not a whole gzip file"),
        (gzip.compress(b"abc" * 99, mtime=0)[:-9], Decode(format="idx"), "a.gz", "not a whole gzip file"),
    ],
)
def test_refuses_with_one_clear_sentence(data: bytes, decode: Decode, path: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        decode_raw(data, decode, path)


def test_refuses_an_npy_that_claims_more_than_it_holds_before_allocating() -> None:
    honest = npy(np.zeros(1))
    lie = honest.replace(b"'shape': (1,), }" + b" " * 14, b"'shape': (99999999999999,), }" + b" ")
    assert lie != honest
    with pytest.raises(InvalidInput, match="bytes, not"):
        decode_raw(lie, Decode(format="npy", dtype="float64"), "bomb.npy")


def test_refuses_pickled_objects() -> None:
    header = npy(np.zeros(1)).replace(b"'<f8'", b"'|O' ")
    with pytest.raises(InvalidInput):
        decode_raw(header, Decode(format="npy"), "a.npy")


def test_refuses_a_gzip_bomb() -> None:
    with pytest.raises(InvalidInput, match=r"more than 1\.0 KiB"):
        decode_raw(gzip.compress(bytes(10_000)), Decode(format="idx"), "a.gz", max_bytes=1024)


def test_preprocess_runs_the_steps_in_order() -> None:
    image = np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3)
    steps = (
        Transpose((2, 0, 1)),
        Affine(scale=0.5),
        Normalize((0, 1, 2), (1, 1, 2)),
        Reshape((3, -1)),
        Cast("float16"),
    )
    result = preprocess(image, steps)
    assert result.shape == (1, 3, 4)
    assert result.dtype == np.float16
    np.testing.assert_allclose(result[0, 2], (np.array([2, 5, 8, 11]) / 2 - 2) / 2)


@pytest.mark.parametrize(
    ("step", "says"),
    [
        (Reshape((5,)), r"\[2, 3\] \(6 elements\) cannot take the shape \[5\]"),
        (Reshape((-1, -1)), "cannot take"),
        (Reshape((-2, -3)), "cannot take"),
        (Reshape((0, -1)), "cannot take"),
        (Transpose((0, 0)), r"transpose \[0, 0\]"),
        (Transpose((0,)), "transpose"),
        (Normalize((1, 2, 3), (1, 1, 1)), r"3 channels; the array is \[4, 2, 3\]"),
        (Normalize((1, 2), (1, 0)), "non-zero std"),
        (Normalize((1, 2), (1,)), "as many"),
        (Cast("uint8"), "uint8 cannot hold"),
    ],
)
def test_preprocess_names_the_step_that_does_not_fit(step: object, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        preprocess(np.full((4, 2, 3), 1000.0), (step,))


@given(hnp.arrays(np.float32, (3, 5), elements=st.floats(-1e4, 1e4, width=32)))
def test_softmax_gives_probabilities(logits: np.ndarray) -> None:
    probability = postprocess(logits, (Softmax(),))["probability"]
    assert (probability >= 0).all()
    np.testing.assert_allclose(probability.sum(axis=1), 1, rtol=1e-5)


@given(hnp.arrays(np.float32, (3, 5), elements=st.floats(-1e4, 1e4, width=32)), st.integers(1, 5))
def test_top_k_is_the_best_in_order(scores: np.ndarray, k: int) -> None:
    result = postprocess(scores, (TopK(k, ("a", "b", "c", "d", "e")),))
    np.testing.assert_array_equal(result["score"], -np.sort(-scores, axis=1)[:, :k])
    np.testing.assert_array_equal(np.take_along_axis(scores, result["class"], 1), result["score"])
    assert result["class"].dtype == np.int64
    assert result["label"].tolist() == [["abcde"[c] for c in row] for row in result["class"]]


@pytest.mark.parametrize(
    ("array", "steps", "says"),
    [
        (np.zeros((2, 3)), (TopK(4),), "top_k of 4"),
        (np.zeros((2, 3)), (TopK(0),), "top_k of 0"),
        (np.zeros(3), (TopK(1),), r"array is \[3\]"),
        (np.zeros((2, 3)), (TopK(1, ("a",)),), "1 labels for 3 classes"),
        (np.zeros((2, 3)), (TopK(1), Softmax()), "last"),
        (np.zeros((2, 3), np.int64), (Softmax(),), "needs floats"),
    ],
)
def test_postprocess_refuses(array: np.ndarray, steps: tuple[object, ...], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        postprocess(array, steps)


def test_no_steps_give_no_arrays() -> None:
    assert postprocess(np.zeros((1, 2)), ()) == {}


@given(
    hnp.arrays(
        st.sampled_from([np.uint8, np.float32, np.float64]), (2, 4, 5, 3), elements=st.integers(0, 255)
    ),
    st.permutations(
        [
            Transpose((2, 0, 1)),
            Affine(scale=1 / 255, offset=0.5),
            Affine(scale=2.0),
            Cast("float32"),
            Reshape((3, 4, 5)),
        ]
    ),
)
def test_steps_in_place_give_what_one_after_the_other_gives(array: np.ndarray, steps: list[object]) -> None:
    before, expected = array.copy(), array
    for step in steps:
        match step:
            case Transpose(axes=axes) if expected.shape == (2, 4, 5, 3):
                expected = expected.transpose(0, *(axis + 1 for axis in axes))
            case Transpose():
                return  # another order of sizes, which only some transpositions fit
            case Affine(scale=scale, offset=offset):
                expected = expected.astype(np.float32) * np.float32(scale) + np.float32(offset)
            case Cast():
                expected = expected.astype(np.float32)
            case Reshape(shape=shape):
                expected = expected.reshape(2, *shape)
    result = preprocess(array, steps)
    np.testing.assert_array_equal(result, expected)
    assert result.flags.c_contiguous
    np.testing.assert_array_equal(array, before)
