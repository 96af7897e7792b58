"""Packages that only some need: looked for where they are used, and asked for by the line that installs them."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Final

EXTRAS: Final = ("openvino", "executorch")  # each called as its package is


def require_extra(extra: str, field: str) -> None:
    """Refuse what `field` of the params asks for where the extra is not installed; nothing is imported.

    Raises:
        ValueError: it is missing; the message has the line that installs it.
    """
    if find_spec(extra) is None:
        raise ValueError(f"{field} needs {extra}, which is not installed; `pip install 'downsize[{extra}]'` would do")


def present(packages: Sequence[str], field: str) -> list[str]:
    """Those of the packages that are installed.

    Raises:
        ValueError: none is; the message has the line that installs the first.
    """
    found = [package for package in packages if find_spec(package)]
    if not found:
        require_extra(packages[0], field)
    return found
