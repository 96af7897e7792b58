import gzip
import io
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tasks.data.raw import RawData, as_raw, encode_labels
from tasks.data.sources import SOURCES, digits, idx, image_folder, numpy_file

# --- labels and what any source returns ------------------------------------------------------------------------------


def test_labels_that_are_numbers_sort_as_numbers():
    y, classes = encode_labels(["10", "9", "10"], "src")
    assert classes == ("9", "10") and y.tolist() == [1, 0, 1]


def test_labels_that_are_names_sort_as_names():
    y, classes = encode_labels(["10", "b", "9"], "src")
    assert classes == ("10", "9", "b") and y.tolist() == [0, 2, 1]


def test_given_classes_fix_the_order_of_names_and_the_meaning_of_numbers():
    assert encode_labels(["cat", "dog"], "src", ["dog", "cat"])[0].tolist() == [1, 0]
    assert encode_labels(np.array([1.0, 0.0]), "src", ["dog", "cat"])[0].tolist() == [1, 0]


@pytest.mark.parametrize(
    ("values", "classes", "says"),
    [
        ([1.5, 2.0], None, "labels such as 1.5 are no classes"),
        (["a", None, "b"], None, "missing in 1 of 3 rows, e.g. row 1"),
        ([0, 3], ["a", "b"], "label 3 has no name; classes names 2, 0 to 1"),
        (["a", "x"], ["a", "b"], "label 'x' is none of the classes a, b"),
        (["a"], ["a", "a"], "names one class twice"),
    ],
)
def test_labels_that_are_no_classes(values, classes, says):
    with pytest.raises(ValueError, match=says):
        encode_labels(values, "src", classes)


def test_a_pair_from_the_user_gets_columns_and_float32():
    raw = as_raw((np.array([[1.0, 2.0], [3.0, 1e300]]), ["b", "a"]), "my:load")
    assert raw.classes == ("a", "b") and raw.y.tolist() == [1, 0]
    assert raw.x.dtype == np.float32 and np.isinf(raw.x[1, 1])  # validate refuses it, with its row
    assert [column.name for column in raw.columns] == ["x0", "x1"] and raw.table["x0"].tolist() == [1, 3]


def test_grey_images_from_the_user_get_a_channel():
    assert as_raw((np.zeros((2, 4, 5), bool), [0, 1]), "my:load").x.shape == (2, 1, 4, 5)


@pytest.mark.parametrize(
    ("made", "says"),
    [
        ({"x": 1}, "returned dict; it must be"),
        ((np.zeros((3, 2)), [0, 1]), "x has 3 rows, y 2, table 3"),
        ((np.array([["a"], ["b"]]), [0, 1]), "x holds <U1; it must hold numbers"),
        ((np.zeros(2), [0, 1]), r"x is \(2,\); it must be"),
        ((np.zeros((0, 2)), []), "there is nothing in it"),
        ((np.zeros((2, 1)), [0, 1], {"a": [1, 2]}), "the table is a dict"),
        ((np.zeros((2, 1)), [0, 1], pd.DataFrame({"x0": [1, 2]})), "'x0', the name of a column of x"),
        (RawData(np.zeros((2, 1)), np.array([0, 2]), ("a", "b")), "integers from 0 to 1"),
        (RawData(np.zeros((1, 1)), np.array([0]), ("a",), slices=("sex",)), "column 'sex' does not exist"),
    ],
)
def test_what_a_source_must_not_return(made, says):
    with pytest.raises(ValueError, match=f"my:load.*{says}"):
        as_raw(made, "my:load")


def test_a_given_split_is_train_and_test():
    def made(*split):
        table = pd.DataFrame({"part": split})
        return RawData(np.zeros((2, 1)), np.array([0, 0]), ("a",), table, given_split="part")

    with pytest.raises(ValueError, match="'part' is 'val' in row 1; it must be one of train, validation, test"):
        as_raw(made("train", "val"), "my:load")
    with pytest.raises(ValueError, match="has no row 'test'"):
        as_raw(made("train", "train"), "my:load")


def test_digits():
    raw = digits()
    assert raw.x.shape == (1797, 1, 8, 8) and raw.x.dtype == np.uint8 and raw.x.max() == 16
    assert raw.classes == tuple("0123456789") and np.bincount(raw.y).min() == 174


def test_the_table_of_sources_calls_them_by_their_own_names():
    assert all(function.__name__ == name for name, function in SOURCES.items())


# --- idx -------------------------------------------------------------------------------------------------------------


def idx_bytes(array, kind=8):
    return bytes((0, 0, kind, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def mnist(tmp_path):
    """Three train and two test images of 2 x 2; the train pair is gzipped."""
    images = np.arange(20, dtype=np.uint8).reshape(5, 2, 2)
    labels = np.array([1, 0, 1, 0, 1], np.uint8)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(images[:3])))
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx_bytes(labels[:3])))
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(idx_bytes(images[3:]))
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx_bytes(labels[3:]))
    return tmp_path


def test_idx_keeps_pixels_labels_and_the_given_split(mnist):
    raw = idx(".", classes=["shirt", "boot"], root=mnist)
    assert raw.x.shape == (5, 1, 2, 2) and raw.x.ravel().tolist() == list(range(20))
    assert raw.y.tolist() == [1, 0, 1, 0, 1] and raw.classes == ("shirt", "boot")
    assert raw.table[raw.given_split].tolist() == ["train"] * 3 + ["test"] * 2


BAD_IDX = {
    "cut short": (idx_bytes(np.zeros((2, 2, 2), np.uint8))[:-1], "2 x 2 x 2, 8 bytes; there are 7"),
    "too long": (idx_bytes(np.zeros((2, 2, 2), np.uint8)) + b"\0", "there are more than 8"),
    "labels": (idx_bytes(np.zeros(8, np.uint8)), "starts with 00 00 08 01; .* 00 00 08 03"),
    "floats": (idx_bytes(np.zeros((2, 2, 2), np.uint8), kind=13), "starts with 00 00 0d 03"),
    "empty": (b"", "starts with nothing"),
    "half a header": (b"\0\0\x08\x03\0\0", "ends inside its header; 16 bytes"),
    "no images": (idx_bytes(np.zeros((0, 2, 2), np.uint8)), "0 x 2 x 2; .* cannot hold that"),
    "4 exabytes": (b"\0\0\x08\x03" + struct.pack(">3I", 2**31, 2**16, 2**15), "cannot hold that"),
    "more images than labels": (idx_bytes(np.zeros((3, 2, 2), np.uint8)), "t10k has 3 images and 2 labels"),
    "another size": (idx_bytes(np.zeros((2, 3, 2), np.uint8)), r"train images are \(2, 2\), t10k images \(3, 2\)"),
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", BAD_IDX)
def test_a_bad_idx_file_is_named(mnist, name, packed):
    content, says = BAD_IDX[name]
    (mnist / "t10k-images-idx3-ubyte").unlink()
    path = mnist / f"t10k-images-idx3-ubyte{'.gz' * packed}"
    path.write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(ValueError, match=f"^{mnist}.*{says}") as error:
        idx(".", root=mnist)
    assert "\n" not in str(error.value)


def test_a_header_that_promises_much_allocates_little(mnist):
    """10 MB of random bytes could unpack to 10 GB; the header says 4 GB, the file holds 10 MB."""
    path = mnist / "t10k-images-idx3-ubyte.gz"
    (mnist / "t10k-images-idx3-ubyte").unlink()
    body = np.random.default_rng(0).bytes(10_000_000)
    path.write_bytes(gzip.compress(b"\0\0\x08\x03" + struct.pack(">3I", 4096, 1024, 1024) + body, compresslevel=0))
    tracemalloc.start()
    with pytest.raises(ValueError, match="4,294,967,296 bytes; there are 10,000,000"):
        idx(".", root=mnist)
    assert tracemalloc.get_traced_memory()[1] < 40e6
    tracemalloc.stop()


@pytest.mark.parametrize("damage", [lambda b: b[:-9], lambda b: b[:-8] + b"\xff" + b[-7:], lambda b: b"text"])
def test_a_damaged_gzip_file_is_named(mnist, damage):
    path = mnist / "train-images-idx3-ubyte.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=f"^{path}: damaged gzip file"):
        idx(".", root=mnist)


def test_a_lacking_idx_file_is_named(mnist):
    (mnist / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"t10k-labels-idx1-ubyte: no such file, nor t10k-labels-idx1-ubyte\.gz"
    ):
        idx(".", root=mnist)


# --- numpy -----------------------------------------------------------------------------------------------------------


def test_npz_with_a_test_part_keeps_it(tmp_path):
    x = np.arange(12).reshape(3, 2, 2)
    np.savez(tmp_path / "d.npz", x_train=x[:2], y_train=["b", "a"], x_test=x[2:], y_test=["b"])
    raw = numpy_file("d.npz", root=tmp_path)
    assert raw.x.ravel().tolist() == list(range(12)) and raw.x.shape == (3, 1, 2, 2)
    assert raw.y.tolist() == [1, 0, 1] and raw.table[raw.given_split].tolist() == ["train", "train", "test"]


def test_npy_pair_with_channels_last(tmp_path):
    x = np.random.default_rng(0).integers(0, 255, (4, 8, 6, 3), np.uint8)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", [0, 1, 0, 1])
    with pytest.raises(ValueError, match="looks like channels last; set channels: last"):
        numpy_file("x.npy", "y.npy", root=tmp_path)
    raw = numpy_file("x.npy", "y.npy", channels="last", root=tmp_path)
    assert raw.x.shape == (4, 3, 8, 6) and raw.x[1, 2, 5, 4] == x[1, 5, 4, 2]


def npy_claiming(shape, body=b"\0" * 8):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": shape})
    return file.getvalue() + body


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (npy_claiming((10**9, 10**6)), "its header says .* there are 8"),
        (b"text", "no .npy file"),
        (b"", "no .npy file"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_a_bad_npy_is_named_before_anything_is_allocated(tmp_path, content, says, packed):
    np.save(tmp_path / "y.npy", [0])
    if packed:
        with zipfile.ZipFile(tmp_path / "d.npz", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("x.npy", content)
            archive.write(tmp_path / "y.npy", "y.npy")
    else:
        (tmp_path / "d.npy").write_bytes(content)
    with pytest.raises(ValueError, match=says) as error:
        numpy_file("d.npz" if packed else "d.npy", None if packed else "y.npy", root=tmp_path)
    assert "\n" not in str(error.value)


def test_pickled_objects_are_never_read(tmp_path):
    class Bomb:
        def __reduce__(self):
            return Path.touch, (tmp_path / "exploded",)

    np.savez(tmp_path / "d.npz", x=np.array([Bomb(), 1], object), y=[0, 1])
    with pytest.raises(ValueError, match=r"x\.npy: holds pickled Python objects, which are never read"):
        numpy_file("d.npz", root=tmp_path)
    assert not (tmp_path / "exploded").exists()


def test_npz_says_what_it_lacks(tmp_path):
    np.savez(tmp_path / "d.npz", data=[1], y=[0])
    with pytest.raises(ValueError, match="has data, y; it needs x and y, or"):
        numpy_file("d.npz", root=tmp_path)
    (tmp_path / "d.npz").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"d.npz: damaged .npz file"):
        numpy_file("d.npz", root=tmp_path)


@pytest.mark.parametrize("source", [idx, numpy_file, image_folder])
def test_a_missing_path_is_named(source, tmp_path):
    with pytest.raises(FileNotFoundError, match=f"{tmp_path}/nowhere: no such file or folder"):
        source("nowhere", root=tmp_path)
