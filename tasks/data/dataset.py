"""The data set on disk: `x.npy`, `y.npy`, `table.parquet` and `card.json` in one folder, memory-mapped when read.

Numbers in `x` are raw (pixels, measurements); the model normalises them itself, so a served model takes raw rows.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, JsonValue

BLOCK: Final = 1 << 22
MISSING: Final = "(missing)"  # the category of a cell without a value


class Column(BaseModel):
    """One input column of tabular data. A categorical one becomes len(categories) columns of `x`, one-hot."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    kind: Literal["numeric", "categorical"]
    categories: tuple[str, ...] = ()


class Card(BaseModel):
    """What `card.json` says of a data set.

    input_shape: of one sample, (channels, height, width) for images, (features,) for tables.
    slices: columns of table.parquet by which figures are also reported; group: column whose rows stay together;
    given_split: column that says train / test where the source fixes a test split.
    sha256: of x, y and the table's content; the identity of the data.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    task: Literal["classification"] = "classification"
    kind: Literal["image", "tabular"]
    samples: int
    input_shape: tuple[int, ...]
    classes: tuple[str, ...]
    columns: tuple[Column, ...] = ()
    unit: str = ""
    slices: tuple[str, ...] = ()
    group: str | None = None
    given_split: str | None = None
    source: dict[str, JsonValue] = {}
    sha256: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = ""


@dataclass(frozen=True)
class Dataset:
    """x: (n, *input_shape), any numeric type, memory-mapped; y: (n,), int64, indices into card.classes."""

    x: npt.NDArray[Any]
    y: npt.NDArray[np.int64]
    card: Card
    folder: Path

    def table(self, columns: list[str] | None = None) -> pd.DataFrame:
        """Per-sample columns: id, label (the class's name), features or statistics, slice attributes."""
        return pd.read_parquet(self.folder / "table.parquet", columns=columns)


def save_dataset(folder: Path, x: npt.NDArray[Any], y: npt.NDArray[np.int64], table: pd.DataFrame, card: Card) -> Card:
    """Write the four files into `folder` (made here) and return the card with its hash and sizes filled in."""
    folder.mkdir(parents=True)
    np.save(folder / "x.npy", x)
    np.save(folder / "y.npy", y.astype(np.int64))
    table.to_parquet(folder / "table.parquet", index=False)
    card = card.model_copy(
        update={"samples": len(x), "input_shape": tuple(x.shape[1:]), "sha256": _content_hash(folder, table)}
    )
    (folder / "card.json").write_text(card.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return card


def load_dataset(folder: Path) -> Dataset:
    """Open a data set without reading its samples.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: the arrays, the card and each other disagree.
    """
    for name in ("x.npy", "y.npy", "table.parquet", "card.json"):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder / name} is missing; `downsize stage ingest` makes it")
    card = Card.model_validate_json((folder / "card.json").read_text(encoding="utf-8"))
    x = np.load(folder / "x.npy", mmap_mode="r", allow_pickle=False)
    y = np.load(folder / "y.npy", allow_pickle=False)
    if x.shape != (card.samples, *card.input_shape) or y.shape != (card.samples,):
        raise ValueError(
            f"{folder}: x is {x.shape} and y {y.shape}, card.json says {card.samples} of {card.input_shape}"
        )
    return Dataset(x, y, card, folder)


def _content_hash(folder: Path, table: pd.DataFrame) -> str:
    digest = hashlib.sha256()
    for name in ("x.npy", "y.npy"):
        with (folder / name).open("rb") as file:
            while block := file.read(BLOCK):
                digest.update(block)
    digest.update(table.to_csv(index=False).encode())  # parquet's own bytes carry its writer's version
    return digest.hexdigest()
