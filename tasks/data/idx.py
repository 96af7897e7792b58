"""MNIST's own format: four IDX files, gzipped or not."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import BinaryIO, Final, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from tasks.data.raw import RawData, encode_labels, located

UNSIGNED_BYTE: Final = 8
MAX_DEFLATE_RATIO: Final = 1032  # what deflate can reach at most
CHUNK: Final = 1 << 20

Bytes = npt.NDArray[np.uint8]


def idx(folder: str, *, classes: Sequence[str] | None = None, root: Path = Path()) -> RawData:
    """MNIST and its kin: {train,t10k}-{images-idx3,labels-idx1}-ubyte, each with or without .gz.

    The t10k files stay the test split. x: uint8 (n, 1, height, width), grey levels 0 to 255.

    Args:
        folder: holds the four files.
        classes: names of labels 0, 1, ...; without them the numbers are the names.

    Raises:
        FileNotFoundError: a file is lacking.
        ValueError: a file is cut short, too long or no IDX file, or images and labels differ in number.
    """
    place = located(root, folder)
    parts = [_pair(place, prefix) for prefix in ("train", "t10k")]
    images = [part[0] for part in parts]
    if images[0].shape[1:] != images[1].shape[1:]:
        raise ValueError(f"{place}: train images are {images[0].shape[1:]}, t10k images {images[1].shape[1:]}")
    y, names = encode_labels(np.concatenate([part[1] for part in parts]), str(place), classes)
    split = np.repeat(["train", "test"], [len(part) for part in images])
    return RawData(
        np.concatenate(images)[:, None],
        y,
        names,
        pd.DataFrame({"split": split}),
        unit="grey level, 0 to 255",
        given_split="split",
        name=place.name,
    )


def _pair(folder: Path, prefix: str) -> tuple[Bytes, Bytes]:
    images = read_idx(_file(folder, f"{prefix}-images-idx3-ubyte"), dimensions=3)
    labels = read_idx(_file(folder, f"{prefix}-labels-idx1-ubyte"), dimensions=1)
    if len(images) != len(labels):
        raise ValueError(f"{folder}: {prefix} has {len(images)} images and {len(labels)} labels")
    return images, labels


def _file(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise FileNotFoundError(f"{folder / name}: no such file, nor {name}.gz")


def read_idx(path: Path, dimensions: int) -> Bytes:
    """One IDX file of unsigned bytes; memory never exceeds what the file really holds.

    Raises:
        ValueError: the content is not what the header promises.
    """
    packed = path.suffix == ".gz"
    with gzip.open(path) if packed else path.open("rb") as file:
        try:
            return _read(cast(BinaryIO, file), path, dimensions, packed)
        except (gzip.BadGzipFile, zlib.error, EOFError) as error:
            raise ValueError(f"{path}: damaged gzip file: {error}") from None


def _read(file: BinaryIO, path: Path, dimensions: int, packed: bool) -> Bytes:
    magic = bytes((0, 0, UNSIGNED_BYTE, dimensions))
    header = file.read(4 + 4 * dimensions)
    if header[:4] != magic:
        raise ValueError(
            f"{path}: starts with {header[:4].hex(' ') or 'nothing'}; an IDX file of this kind with {magic.hex(' ')}"
        )
    if len(header) < 4 + 4 * dimensions:
        raise ValueError(f"{path}: ends inside its header; {4 + 4 * dimensions} bytes were expected")
    shape = tuple(int(size) for size in np.frombuffer(header, ">u4", offset=4))
    promised = prod(shape)
    sizes = " x ".join(map(str, shape))
    capacity = path.stat().st_size * (MAX_DEFLATE_RATIO if packed else 1)
    if not promised or promised > capacity:
        raise ValueError(f"{path}: its header says {sizes}; a file of {path.stat().st_size:,} bytes cannot hold that")
    content = bytearray()
    while len(content) <= promised and (chunk := file.read(min(CHUNK, promised + 1 - len(content)))):
        content += chunk
    if len(content) != promised:
        found = f"more than {promised:,}" if len(content) > promised else f"{len(content):,}"
        raise ValueError(f"{path}: its header says {sizes}, {promised:,} bytes; there are {found}")
    return np.frombuffer(content, np.uint8).reshape(shape)
