"""Samples from elsewhere, brought into the form of the data set that the models learned from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from tasks.data.batches import Samples
from tasks.data.dataset import Card, Column
from tasks.data.raw import RawData, examples

FIELD: Final = "evaluate.shifted"


def shifted_samples(raw: RawData, card: Card) -> Samples:
    """All samples of the source, classes and columns matched by name; a category that is not known becomes none.

    Raises:
        ValueError: its samples have another shape, a column is lacking or of another kind, or a class is not known.
    """
    unknown = [name for name in raw.classes if name not in card.classes]
    if unknown:
        raise ValueError(
            f"{FIELD}: class '{examples(unknown)}' is none that the models know: {examples(card.classes)}; "
            "give the same classes as ingest.source"
        )
    codes = np.array([card.classes.index(name) for name in raw.classes])
    x = _aligned(np.asarray(raw.x), raw.columns, card.columns) if card.columns else np.asarray(raw.x)
    if tuple(x.shape[1:]) != card.input_shape:
        raise ValueError(f"{FIELD}: a sample is {tuple(x.shape[1:])}; the models take {card.input_shape}")
    if not np.isfinite(np.asarray(x, np.float32)).all():
        raise ValueError(f"{FIELD}: x holds missing or infinite numbers; mend or leave out those rows")
    return Samples(x, codes[np.asarray(raw.y)].astype(np.int64), np.arange(len(x)), origin=FIELD)


def _aligned(x: npt.NDArray[Any], columns: Sequence[Column], wanted: Sequence[Column]) -> npt.NDArray[np.float32]:
    """The features in the models' order."""
    starts, start = {}, 0
    for column in columns:
        starts[column.name] = (column, start)
        start += len(column.categories) or 1
    parts = []
    for column in wanted:
        if column.name not in starts or starts[column.name][0].kind != column.kind:
            raise ValueError(f"{FIELD}: has no {column.kind} column '{column.name}', which the models take")
        own, at = starts[column.name]
        if column.kind == "numeric":
            parts.append(x[:, at])
        else:
            place = {name: at + index for index, name in enumerate(own.categories)}
            zero = np.zeros(len(x), np.float32)
            parts += [x[:, place[name]] if name in place else zero for name in column.categories]
    return np.stack(parts, axis=1).astype(np.float32)
