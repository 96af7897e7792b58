"""The built-in data sources. `ingest.source.factory: "tasks.data.sources:NAME"`; args are the function's keywords.

A source of the user's own, "module:name", is a function that returns `(x, y)`, `(x, y, table)` or `RawData`
(tasks/data/raw.py), for example

    def load(*, rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]: ...

A source may also take `root`, the folder of params.yaml, and `seed`; both are filled in unless args give them.
DVC watches the folder `data/`: files elsewhere are read all the same, but a change in them does not make ingest stale.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from tasks.data.arrays import numpy_file
from tasks.data.idx import idx
from tasks.data.image_folder import image_folder
from tasks.data.raw import RawData, encode_labels
from tasks.data.tables import csv, parquet


def digits() -> RawData:
    """The 1,797 handwritten digits that come with scikit-learn; x: uint8 (1797, 1, 8, 8), 0 to 16."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    y, classes = encode_labels(bunch.target, "digits")
    x = bunch.images.astype(np.uint8)[:, None]
    return RawData(x, y, classes, unit="grey level, 0 to 16", name="digits")


SOURCES: Final[Mapping[str, Callable[..., RawData]]] = {
    "digits": digits,
    "idx": idx,
    "csv": csv,
    "parquet": parquet,
    "numpy_file": numpy_file,
    "image_folder": image_folder,
}
