"""Samples as small pictures that a page can hold."""

from __future__ import annotations

from io import BytesIO
from typing import Any, Final

import numpy as np
import numpy.typing as npt

LARGEST: Final = 96  # pixels of the longer side


def png(image: npt.NDArray[Any]) -> bytes:
    """(channels, height, width) as a PNG, its own range stretched over black to white.

    Three channels or more are colours, of fewer the first is grey. Large ones shrink to LARGEST.
    """
    from PIL import Image

    shown = np.asarray(image[:3] if len(image) >= 3 else image[:1], float)
    low, high = float(shown.min()), float(shown.max())
    scaled = ((shown - low) / ((high - low) or 1.0) * 255).round().astype(np.uint8)
    picture = Image.fromarray(scaled[0] if len(scaled) == 1 else np.moveaxis(scaled, 0, 2))
    picture.thumbnail((LARGEST, LARGEST))
    buffer = BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
