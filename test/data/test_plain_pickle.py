"""Pickles of plain values and arrays are read; whatever could run or harm is refused, unrun."""

import os
import pickle
import struct
from collections import OrderedDict
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from crisp_ros.data.files import DatasetError
from crisp_ros.data.plain_pickle import read_plain_pickle

PLAIN = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(), st.binary()
    ),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.integers(), inner, max_size=4)
    ),
    max_leaves=8,
)
ARRAYS = arrays.arrays(
    st.sampled_from(["?", "u1", "<i4", ">i4", "<f4", "f8", ">u2"]),
    arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pickles") / "file.pkl"


@given(value=PLAIN, array=ARRAYS, protocol=st.integers(0, 5))
def test_plain_values_and_arrays_survive(
    path: Path, value: object, array: np.ndarray, protocol: int
) -> None:
    ordered = OrderedDict(a=np.asfortranarray(array), b=array[..., :1] if array.ndim else array)
    path.write_bytes(pickle.dumps([value, array, ordered], protocol))
    read_value, read_array, read_dict = read_plain_pickle(path)
    assert read_value == value
    assert read_array.dtype == array.dtype
    np.testing.assert_array_equal(read_array, array)
    np.testing.assert_array_equal(read_dict["a"], ordered["a"])
    np.testing.assert_array_equal(read_dict["b"], ordered["b"])


def test_a_scalar_and_an_array_in_two_places_survive(path: Path) -> None:
    array = np.arange(3)
    path.write_bytes(pickle.dumps({"x": np.float32(2.5), "y": [array, array]}))
    content = read_plain_pickle(path)
    assert content["x"] == np.float32(2.5) and content["x"].shape == ()
    assert content["y"][0] is content["y"][1]


def test_what_python_2_wrote_is_read(path: Path) -> None:
    """Its strings are bytes, as the raw data of its arrays are."""
    data = struct.pack("<2d", 1.5, -2.0)
    path.write_bytes(
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x02\x85cnumpy\ndtype\nU\x02f8K\x00K\x01\x87R"
        b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        b"U\x10" + data + b"tb."
    )
    np.testing.assert_array_equal(read_plain_pickle(path), [1.5, -2.0])


class Calls:
    """Pickles as the call of a function."""

    def __init__(self, function: Callable, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple:
        return self.call


class Instance:
    """Nothing but an object of a class."""


def nested(depth: int) -> bytes:
    """Tuples in one another, a key of a dict in the end: hashing them would overflow the stack."""
    return b"\x80\x02}" + b")" + b"\x85" * depth + b"Ns."


def laughs() -> list:
    """Lists of the same lists, 10 to the power of 20 entries if they were unfolded."""
    content: list = []
    for _ in range(20):
        content = [content] * 10
    return content


HARM = "touch "
STRUCTURE = np.zeros(2, [("a", "f4"), ("b", "i4")])
MALICE = {
    "os.system": ("refused.*system", lambda mark: Calls(os.system, HARM + mark)),
    "eval": ("refused.*eval", lambda mark: Calls(eval, f"open({mark!r}, 'w')")),
    "open": ("refused.*open", lambda mark: Calls(open, mark, "w")),
    "getattr": ("refused.*getattr", lambda mark: Calls(getattr, "x", "upper")),
    "a module": ("refused", lambda mark: Calls(__import__, "antigravity")),
    "np.load": ("refused", lambda mark: Calls(np.load, mark)),
    "np.fromfile": ("refused", lambda mark: Calls(np.fromfile, "/etc/hostname")),
    "in a list in a dict": ("refused", lambda mark: {"a": [1, Calls(os.system, HARM + mark)]}),
    "an object": ("refused", lambda mark: Instance()),
    "a fraction": ("refused.*Fraction", lambda mark: Fraction(1, 3)),
    "a path": ("refused", lambda mark: Path(mark)),
    "a set": ("no plain value|refused", lambda mark: {1, 2}),
    "a class": ("refused", lambda mark: Instance),
    "an array of objects": ("array of object", lambda mark: np.array([os.system, None])),
    "an array of structures": ("structures|array of", lambda mark: STRUCTURE),
    "an array of texts": ("array of", lambda mark: np.array(["abc"])),
    "an array of dates": ("array of", lambda mark: np.array(["2020-01-01"], "M8[D]")),
    "an array class": ("no plain value", lambda mark: np.ndarray),
    "a complex": ("refused", lambda mark: 1j),
    "a tuple as key": ("tuple as key", lambda mark: {(1, 2): 3}),
    "a slice": ("refused", lambda mark: slice(1)),
}


@pytest.mark.parametrize("name", MALICE)
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_what_could_run_is_refused_and_does_not(path: Path, name: str, protocol: int) -> None:
    message, malice = MALICE[name]
    mark = path.parent / "mark"
    path.write_bytes(pickle.dumps(malice(str(mark)), protocol))
    with pytest.raises(DatasetError, match=message) as refusal:
        read_plain_pickle(path)
    assert str(path) in str(refusal.value)
    assert not mark.exists()


RAW = {
    "empty": b"",
    "no pickle": b"hello",
    "cut off": pickle.dumps(np.zeros((10, 10)))[:-40],
    "bytes that are not there": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b"x.",
    "a memo index of a billion": b"\x80\x02Nr\xff\xff\xff\x3f.",
    "a persistent id": b"Pname\n.",
    "an extension": b"\x80\x02\x82\x01.",
    "deep tuples": nested(200_000),
    "an instance of Python 2": b"(cos\nsystem\nS'true'\no.",
    "an instance by name": b"(S'true'\nios\nsystem\n.",
    "an array larger than its data": (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
        b"(I1\n(I2000000000\ntcnumpy\ndtype\n(S'f8'\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntbI00\n"
        b"S'abcdefgh'\ntb."
    ),
    "an array reconstructed large": (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I9000000000\ntS'b'\ntR."
    ),
    "a change to numpy's function": (
        b"cnumpy.core.multiarray\nscalar\n(N}S'__defaults__'\n(I1\nI2\ntstb."
    ),
    "a change to a class": b"cnumpy\ndtype\n}S'x'\nI1\nsb.",
    "an encoding": b"c_codecs\nencode\n(Vabc\nS'zlib_codec'\ntR.",
    "a list in itself": b"(lp0\ng0\na.",
}


@pytest.mark.parametrize("name", RAW)
def test_what_no_pickler_writes_is_refused(path: Path, name: str) -> None:
    path.write_bytes(RAW[name])
    with pytest.raises(DatasetError, match=str(path)):
        read_plain_pickle(path)


def test_shared_lists_are_not_unfolded(path: Path) -> None:
    path.write_bytes(pickle.dumps(laughs()))
    assert len(read_plain_pickle(path)) == 10


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="absent.pkl: not readable"):
        read_plain_pickle(tmp_path / "absent.pkl")
