"""Stage 1: from the user's data to the data set folder that every later stage reads."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

from tasks.data.dataset import Card, save_dataset
from tasks.data.describe import content_hashes, image_statistics
from tasks.data.raw import RawData, as_raw
from tasks.files import Files
from tasks.params import Ingest
from tasks.plugins import make

FIELD: Final = "ingest.source"


def ingest(params: Ingest, seed: int, files: Files) -> dict[str, float]:
    """Read the source and write the data set.

    Missing and infinite numbers pass; validate refuses them, with their rows.

    Returns:
        Counts: samples, classes, features (values per sample).

    Raises:
        ValueError: the source's arguments, its data or the names of its columns are wrong.
    """
    factory = params.source
    made = make(factory, FIELD, root=files.reads["source"].parent, seed=seed)
    raw = as_raw(made, f"{FIELD}: {factory.factory}")
    card = Card(
        name=raw.name or factory.factory.partition(":")[2],
        kind="image" if raw.is_image else "tabular",
        samples=len(raw.x),
        input_shape=tuple(raw.x.shape[1:]),
        classes=raw.classes,
        columns=raw.columns,
        unit=raw.unit,
        slices=raw.slices,
        group=raw.group,
        given_split=raw.given_split,
        source={"factory": factory.factory, "args": factory.args},
    )
    save_dataset(files.writes["data"], raw.x, raw.y, sample_table(raw), card)
    return {
        "samples": len(raw.x),
        "classes": len(raw.classes),
        "features": int(np.prod(raw.x.shape[1:])),
    }


def sample_table(raw: RawData) -> pd.DataFrame:
    """One row per sample: id, label, figures of images, the source's own columns, sha1 of the sample's numbers.

    Raises:
        ValueError: the source uses one of these names for a column of its own.
    """
    ids = raw.table["id"] if "id" in raw.table else np.arange(len(raw.x))
    front = pd.DataFrame({"id": ids, "label": np.array(raw.classes)[raw.y]})
    figures = image_statistics(raw.x) if raw.is_image else pd.DataFrame(index=front.index)
    own = raw.table.drop(columns="id", errors="ignore")
    taken = {*front, *figures, "sha1"} & set(own)
    if taken:
        raise ValueError(
            f"{FIELD}: column '{min(taken)}' has a name that ingest itself uses; rename it or leave it out"
        )
    return pd.concat([front, figures, own, pd.DataFrame({"sha1": content_hashes(raw.x)})], axis="columns")
