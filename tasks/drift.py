"""New data beside those that the model has learned from: has a column moved, or what the model answers?"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from tasks.data.dataset import Dataset, load_dataset
from tasks.data.describe import image_statistics
from tasks.data.incoming import PIECE, whole
from tasks.data.splits import load_splits
from tasks.measure.drift import Kind, Shift, shifts
from tasks.predict import open_source
from tasks.served import Served

ROWS: Final = 10_000  # of either side, at most; no drift worth a retraining hides in more
PIXELS: Final[dict[str, Kind]] = {"mean": "numeric", "std": "numeric", "min": "numeric", "max": "numeric"}
ANSWERS: Final[dict[str, Kind]] = {"prediction": "categorical", "confidence": "numeric"}


def drift(served: Served, artifacts: Path, source: Path, seed: int) -> list[Shift]:
    """Each input column of the source (of images: mean, std, min, max of the pixels), then the model's answers.

    Inputs are held against the training split of the data set in `artifacts`, answers against those on its test
    split, since on what it has learned a model is surer than on anything else.

    Raises:
        FileNotFoundError, ValueError: the source is none, or does not fit the model.
    """
    data = load_dataset(artifacts / "data")
    splits = load_splits({"data": artifacts / "data", "split": artifacts / "split.npz"})
    learned, unseen = (part.first(ROWS, seed).indices for part in (splits.train, splits.test))
    new = whole(open_source(served, source), ROWS)
    kinds = _kinds(data)
    if isinstance(new, pd.DataFrame):
        before, after = data.table(list(kinds)).iloc[learned], new
    elif data.card.kind == "image":
        before, after = image_statistics(data.x[learned]), image_statistics(new)
    else:
        raise ValueError(f"--input {source}: must be a table, .csv or .parquet, as the training data were")
    return shifts(
        {**_columns(before, kinds), **_answers(served, data.x[unseen])},
        {**_columns(after, kinds), **_answers(served, new)},
        {**kinds, **ANSWERS},
    )


def _kinds(data: Dataset) -> dict[str, Kind]:
    return dict(PIXELS) if data.card.kind == "image" else {column.name: column.kind for column in data.card.columns}


def _columns(table: pd.DataFrame, kinds: dict[str, Kind]) -> dict[str, pd.Series[Any]]:
    return {name: table[name] for name in kinds}


def _answers(served: Served, samples: pd.DataFrame | npt.NDArray[Any]) -> dict[str, pd.Series[Any]]:
    pieces = [samples[start : start + PIECE] for start in range(0, len(samples), PIECE)]
    found = pd.concat([served.predict(piece) for piece in pieces], ignore_index=True)
    probabilities = found.drop(columns="label").to_numpy(np.float64)
    return {"prediction": found["label"], "confidence": pd.Series(probabilities.max(axis=1))}
