"""Files for storage and transport: xz with a declared size and hash, back bit for bit. The format: docs/packed.md."""

from __future__ import annotations

import hashlib
import lzma
import struct
from pathlib import Path
from typing import Final

MAGIC: Final = b"DOWNSZP1"
HEADER: Final = struct.Struct("<8sQ32s")  # magic, size and SHA-256 of what was packed
SUFFIX: Final = ".packed"
MAX_BYTES: Final = 4 << 30  # that an unpacked file may declare, by default
DICTIONARY: Final = 64 << 20
MEMORY: Final = 128 << 20  # what such a dictionary takes to read, with a margin
SMALLEST_DICTIONARY: Final = 4096
# float32 has words of 4 bytes whose places differ in kind; INT8 and text have not
MODELS: Final = ({"lc": 3, "lp": 0, "pb": 2}, {"lc": 0, "lp": 2, "pb": 2})


def pack(path: Path) -> Path:
    """Write FILE.packed beside FILE, and return its path.

    Raises:
        FileExistsError: FILE.packed is there already.
    """
    return _write_new(path.with_name(path.name + SUFFIX), packed(path.read_bytes()))


def unpack(path: Path, max_bytes: int = MAX_BYTES) -> Path:
    """Write FILE beside FILE.packed, bit for bit as it was packed, and return its path.

    Raises:
        FileExistsError: FILE is there already.
        ValueError: it is no packed file, damaged, or larger than max_bytes; nothing is written.
    """
    if path.suffix != SUFFIX:
        raise ValueError(f"{path}: the name of a packed file ends in {SUFFIX}")
    try:
        return _write_new(path.with_suffix(""), unpacked(path.read_bytes(), max_bytes))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def packed(data: bytes) -> bytes:
    """Header and the smaller of two xz streams; the same bytes each time."""
    header = HEADER.pack(MAGIC, len(data), hashlib.sha256(data).digest())
    dictionary = max(SMALLEST_DICTIONARY, min(DICTIONARY, len(data)))
    common = {"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": dictionary}
    streams = [lzma.compress(data, check=lzma.CHECK_NONE, filters=[{**common, **model}]) for model in MODELS]
    return header + min(streams, key=len)


def unpacked(data: bytes, max_bytes: int = MAX_BYTES) -> bytes:
    """What `packed` was given; never more than the declared size plus one byte is taken out of the stream.

    Raises:
        ValueError: it is no packed file, damaged, or larger than max_bytes.
    """
    if len(data) < HEADER.size or not data.startswith(MAGIC):
        raise ValueError("not a packed file; `downsize pack` makes one")
    _, size, digest = HEADER.unpack_from(data)
    if size > max_bytes:
        raise ValueError(f"declares {size:,} bytes; at most {max_bytes:,} are unpacked")
    stream = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MEMORY)
    try:
        found = stream.decompress(data[HEADER.size :], max_length=size + 1)
    except lzma.LZMAError as error:
        raise ValueError(f"damaged: {error}") from None
    if len(found) != size or not stream.eof or stream.unused_data:
        raise ValueError(f"damaged: its stream is not of the {size:,} bytes that it declares")
    if hashlib.sha256(found).digest() != digest:
        raise ValueError("damaged: its contents have another SHA-256 than it declares")
    return found


def _write_new(path: Path, data: bytes) -> Path:
    """Whole or not at all."""
    if path.exists():
        raise FileExistsError(f"{path} exists; move it away first")
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(data)
    partial.replace(path)
    return path
