"""Images in one folder per class."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from tasks.data.raw import RawData, encode_labels, located

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES: Final = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}
FORMATS: Final = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
LEFT_BY_WINDOWS: Final = {"Thumbs.db", "desktop.ini"}
GREY: Final = {"1", "L", "LA"}
COLOUR: Final = {"P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"}
MAX_PIXELS: Final = 50_000_000
DAMAGED: Final = (OSError, SyntaxError, ValueError, EOFError, struct.error)  # what Pillow's decoders raise


def image_folder(
    folder: str,
    *,
    size: int | list[int] | None = None,
    channels: int | None = None,
    root: Path = Path(),
) -> RawData:
    """Images as folder/CLASS/**/*.png and the like; or folder/{train,test}/CLASS/..., whose test split then stays.

    x: uint8 (n, channels, height, width), 0 to 255, turned as EXIF says, transparency dropped. The table tells each
    `file`, relative to `folder`.

    Args:
        folder: holds one folder per class, or train/ and test/.
        size: [height, width], or one number for both, in pixels: all images are resized to it, bilinearly. Without
            it they must be equal in size.
        channels: 1 for grey, 3 for RGB; by default grey if every image is.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: an image is damaged, of another size, over 50 million pixels or deeper than 8 bits; a file is no
            image; there are none.
    """
    if channels not in (None, 1, 3):
        raise ValueError(f"channels is {channels}; it must be 1 (grey) or 3 (RGB)")
    place, wanted = located(root, folder), _height_width(size)
    listed = _listed(place)
    paths, labels, splits = zip(*listed, strict=True)
    modes = {_mode(path) for path in paths}
    grey = channels == 1 or (channels is None and modes <= GREY)
    mode = "L" if grey else "RGB"
    first = _decode(paths[0], mode)
    shape = wanted or (first.height, first.width)
    x = np.empty((len(paths), 1 if grey else 3, *shape), np.uint8)
    for pixels, path in zip(x, paths, strict=True):
        pixels[:] = _pixels(_decode(path, mode), path, shape, resize=wanted is not None)
    y, classes = encode_labels(labels, str(place), sorted(set(labels)))
    table = pd.DataFrame({"file": [path.relative_to(place).as_posix() for path in paths]})
    given = any(splits)
    return RawData(
        x,
        y,
        classes,
        table.assign(split=splits) if given else table,
        unit="grey level, 0 to 255" if grey else "RGB, 0 to 255",
        given_split="split" if given else None,
        name=place.name,
    )


def read_images(paths: Sequence[Path], shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """(len(paths), *shape): grey or RGB as shape's channels say, resized where they have another size.

    Raises:
        ValueError: an image is damaged or too large.
    """
    channels, height, width = shape
    x = np.empty((len(paths), *shape), np.uint8)
    for pixels, path in zip(x, paths, strict=True):
        _mode(path)
        pixels[:] = _pixels(_decode(path, "L" if channels == 1 else "RGB"), path, (height, width), resize=True)
    return x


def _height_width(size: int | list[int] | None) -> tuple[int, int] | None:
    if size is None:
        return None
    sides = [size, size] if isinstance(size, int) else size
    if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
        raise ValueError(f"size is {size}; it must be a number of pixels, or [height, width]")
    return sides[0], sides[1]


def _listed(folder: Path) -> list[tuple[Path, str, str]]:
    """(file, class, given split or nothing), in the order of the names."""
    tops = _folders(folder)
    names = {top.name for top in tops}
    if not {"train", "test"} <= names:
        rows = [(path, top.name, "") for top in tops for path in _images(top)]
    elif len(names) > 2:
        extra = ", ".join(sorted(names - {"train", "test"}))
        raise ValueError(f"{folder}: beside train/ and test/ there is {extra}; move it into one of them or away")
    else:
        rows = [(path, inner.name, top.name) for top in tops for inner in _folders(top) for path in _images(inner)]
    if not rows:
        raise ValueError(f"{folder}: no images; there must be one folder per class, with {', '.join(sorted(SUFFIXES))}")
    return rows


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _images(folder: Path) -> list[Path]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    files = [path for path in files if path.name not in LEFT_BY_WINDOWS and not path.name.startswith(".")]
    for path in files:
        if path.suffix.lower() not in SUFFIXES:
            raise ValueError(f"{path}: no image by its name; remove it (known: {', '.join(sorted(SUFFIXES))})")
    if not files:
        raise ValueError(f"{folder}: a class without images; remove it or fill it")
    return files


def _mode(path: Path) -> str:
    """Colour mode, from the file's header alone."""
    with _open(path) as image:
        if image.mode not in GREY | COLOUR:
            raise ValueError(f"{path}: is {image.mode}, not 8 bits per channel; numpy_file reads deeper images")
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise ValueError(f"{path}: is {width} x {height}; more than {MAX_PIXELS:,} pixels are not read")
        return image.mode


def _decode(path: Path, mode: str) -> Image:
    from PIL import ImageOps

    with _open(path) as image:
        try:
            seen = ImageOps.exif_transpose(image)
        except DAMAGED as error:
            raise ValueError(f"{path}: damaged image: {error}") from None
    return (seen.convert("RGBA") if seen.mode in ("P", "PA") else seen).convert(mode)


def _pixels(image: Image, path: Path, shape: tuple[int, int], *, resize: bool) -> npt.NDArray[np.uint8]:
    """(channels, height, width)."""
    from PIL.Image import Resampling

    height, width = shape
    if image.size != (width, height):
        if not resize:
            raise ValueError(f"{path}: is {image.height} x {image.width}, the first image {height} x {width}; set size")
        image = image.resize((width, height), Resampling.BILINEAR)
    pixels: npt.NDArray[np.uint8] = np.asarray(image, np.uint8)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _open(path: Path) -> Image:
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return Image.open(path, formats=FORMATS)
    except UnidentifiedImageError:
        raise ValueError(f"{path}: no image, or a damaged one") from None
    except (*DAMAGED, Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ValueError(f"{path}: cannot be read: {error}") from None
