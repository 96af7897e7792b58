"""Arrays saved by NumPy: .npz archives and pairs of .npy files. Never unpickles."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import IO, Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from tasks.data.raw import RawData, as_raw, encode_labels, located

MAX_DEFLATE_RATIO: Final = 1032  # what deflate can reach at most
FEW_CHANNELS: Final = 4

Array = npt.NDArray[Any]


def numpy_file(
    path: str,
    labels: str | None = None,
    *,
    classes: Sequence[str] | None = None,
    channels: Literal["first", "last"] = "first",
    root: Path = Path(),
) -> RawData:
    """Arrays of inputs and labels.

    Args:
        path: an .npz with x and y, or with x_train, y_train, x_test and y_test (the test part stays the test split);
            or an .npy with x. x: (n, features), (n, height, width), or images as `channels` says.
        labels: the .npy with y, if `path` is one. y: (n,) integers or names.
        classes: names of labels 0, 1, ..., or the order of the names.
        channels: images are (n, channels, height, width), or (n, height, width, channels) with "last".

    Raises:
        FileNotFoundError: no such file.
        ValueError: not such a file, cut short, or holding pickled objects.
    """
    if channels not in ("first", "last"):
        raise ValueError(f"channels is {channels!r}; it must be first or last")
    place = located(root, path)
    table = pd.DataFrame()
    if place.suffix == ".npz":
        if labels is not None:
            raise ValueError(f"{place}: an .npz brings its own y; leave labels out")
        x, y, table = _archive(place)
    elif labels is None:
        raise ValueError(f"{place}: labels must name the .npy file with y, or path an .npz")
    else:
        x, y = single(place), single(located(root, labels))
    indices, names = encode_labels(y, str(place), classes)
    split = "split" if len(table.columns) else None
    raw = RawData(_channels_first(x, channels, place), indices, names, table, given_split=split, name=place.stem)
    return as_raw(raw, str(place))


def _channels_first(x: Array, channels: str, path: Path) -> Array:
    if x.ndim == 3:
        return x[:, None]
    if x.ndim == 4 and channels == "last":
        return np.ascontiguousarray(np.moveaxis(x, 3, 1))
    if x.ndim == 4 and x.shape[1] > FEW_CHANNELS >= x.shape[3]:
        raise ValueError(f"{path}: x is {x.shape}, which looks like channels last; set channels: last")
    return x


def _archive(path: Path) -> tuple[Array, Array, pd.DataFrame]:
    try:
        with zipfile.ZipFile(path) as archive:
            found = {name.removesuffix(".npy") for name in archive.namelist()}
            keys = ["x", "y"] if {"x", "y"} <= found else ["x_train", "y_train", "x_test", "y_test"]
            if not set(keys) <= found:
                raise ValueError(
                    f"{path}: has {', '.join(sorted(found))}; it needs x and y, or x_train, y_train, x_test, y_test"
                )
            for key in keys:
                _check_member(archive, f"{key}.npy", path)
        with np.load(path, allow_pickle=False) as arrays:
            parts = [arrays[key] for key in keys]
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise ValueError(f"{path}: damaged .npz file: {error}") from None
    if len(parts) == 2:
        return parts[0], parts[1], pd.DataFrame()
    if parts[0].shape[1:] != parts[2].shape[1:]:
        raise ValueError(f"{path}: x_train is {parts[0].shape}, x_test {parts[2].shape}; all but the first must agree")
    split = np.repeat(["train", "test"], [len(parts[0]), len(parts[2])])
    return np.concatenate(parts[::2]), np.concatenate(parts[1::2]), pd.DataFrame({"split": split})


def _check_member(archive: zipfile.ZipFile, name: str, path: Path) -> None:
    member = archive.getinfo(name)
    if member.file_size > MAX_DEFLATE_RATIO * max(member.compress_size, 1):
        raise ValueError(
            f"{path}: {name} claims {member.file_size:,} bytes; {member.compress_size:,} packed cannot hold that"
        )
    with archive.open(member) as file:
        _check_header(file, member.file_size, f"{path}: {name}")


def single(path: Path) -> Array:
    """An .npy file, memory-mapped.

    Raises:
        ValueError: no such file, cut short, or holding pickled objects.
    """
    with path.open("rb") as file:
        _check_header(file, path.stat().st_size, str(path))
    array: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    return array


def _check_header(file: IO[bytes], size: int, where: str) -> None:
    """Compare what the header promises with the bytes there are, before any of them is read."""
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
    except ValueError as error:
        raise ValueError(f"{where}: no .npy file: {' '.join(str(error).split())}") from None
    if dtype.hasobject:
        raise ValueError(f"{where}: holds pickled Python objects, which are never read; save it as numbers or text")
    held = size - file.tell()
    if prod(shape) * dtype.itemsize != held:
        raise ValueError(
            f"{where}: its header says {shape} of {dtype}, {prod(shape) * dtype.itemsize:,} bytes; there are {held:,}"
        )
