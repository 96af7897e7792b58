"""New data without labels, read in pieces: tables, arrays, and folders of images."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.parquet

from tasks.data.arrays import single
from tasks.data.image_folder import SUFFIXES, read_images

PIECE: Final = 4096

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Incoming:
    """rows: how many, where that is known beforehand. pieces: tables, numbered over the whole; or arrays of samples.

    names: of the samples, where they are files.
    """

    rows: int | None
    pieces: Iterator[pd.DataFrame | Array]
    names: Sequence[str] | None = None


def incoming(path: Path, shape: tuple[int, ...], text: Sequence[str] = ()) -> Incoming:
    """Open a .csv or .parquet table, an .npy array or a data set folder's x.npy, or a folder of images.

    shape: of one sample. text: the columns that are read as text, so that 007 stays 007.

    Raises:
        FileNotFoundError: there is nothing.
        ValueError: none of these, or samples of another shape.
    """
    if not path.exists():
        raise FileNotFoundError(f"--input {path}: no such file or folder")
    if path.is_dir() and not (path / "x.npy").exists():
        return _images(path, shape)
    if path.is_dir() or path.suffix == ".npy":
        return _array(path / "x.npy" if path.is_dir() else path, shape)
    readers = {".csv": _csv, ".parquet": _parquet}
    if path.suffix not in readers:
        raise ValueError(f"--input {path}: must be .csv, .parquet, .npy, a data set folder or a folder of images")
    return readers[path.suffix](path, text)


def _csv(path: Path, text: Sequence[str]) -> Incoming:
    types: dict[Any, Any] = dict.fromkeys(text, str)

    def pieces() -> Iterator[pd.DataFrame]:
        try:
            # index_col: else a field too many in every row makes the first column an index, and moves all values by one
            with pd.read_csv(path, dtype=types, index_col=False, chunksize=PIECE, low_memory=False) as reader:
                while (piece := _next(reader)) is not None:
                    yield piece
        except (pd.errors.EmptyDataError, pd.errors.ParserError, pd.errors.ParserWarning, UnicodeError) as error:
            raise ValueError(f"--input {path}: no valid CSV: {' '.join(str(error).split())}") from None

    return Incoming(None, pieces())


def _next(reader: Iterator[pd.DataFrame]) -> pd.DataFrame | None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        return next(reader, None)


def _parquet(path: Path, text: Sequence[str]) -> Incoming:
    try:
        file = pyarrow.parquet.ParquetFile(path)
    except (ValueError, OSError) as error:
        raise ValueError(f"--input {path}: no valid Parquet file: {' '.join(str(error).split())}") from None

    def pieces() -> Iterator[pd.DataFrame]:
        start = 0
        for batch in file.iter_batches(PIECE):
            frame = batch.to_pandas(ignore_metadata=True)  # a named index is a column, as ingest has it
            yield frame.set_axis(range(start, start + len(frame)))
            start += len(frame)

    return Incoming(file.metadata.num_rows, pieces())


def _array(path: Path, shape: tuple[int, ...]) -> Incoming:
    x = single(path)
    if x.shape[1:] != shape:
        raise ValueError(f"--input {path}: is {x.shape}; the model takes (samples, {', '.join(map(str, shape))})")
    return Incoming(len(x), (x[start : start + PIECE] for start in range(0, len(x), PIECE)))


def _images(folder: Path, shape: tuple[int, ...]) -> Incoming:
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths or len(shape) != 3:
        raise ValueError(f"--input {folder}: holds no {'images' if not paths else 'table'}, nor x.npy")
    names = [path.relative_to(folder).as_posix() for path in paths]
    starts = range(0, len(paths), PIECE)
    return Incoming(len(paths), (read_images(paths[start : start + PIECE], shape) for start in starts), names)


def whole(source: Incoming, limit: int) -> pd.DataFrame | Array:
    """The first `limit` rows in one piece.

    Raises:
        ValueError: there are none.
    """
    taken, parts = 0, list[pd.DataFrame | Array]()
    for piece in source.pieces:
        parts.append(piece[: limit - taken])
        taken += len(parts[-1])
        if taken >= limit:
            break
    if not taken:
        raise ValueError("--input: has no rows")
    tables = [part for part in parts if isinstance(part, pd.DataFrame)]
    return pd.concat(tables) if tables else np.concatenate([part for part in parts if isinstance(part, np.ndarray)])
