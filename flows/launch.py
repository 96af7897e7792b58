"""From the command line into the flow: check first, keep Prefect's home in the project, tell a failure once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from flows.check import check_recipe


def launch(root: Path, params: Path) -> dict[str, Any]:
    """Check and run the recipe of `params`; returns its summary.

    Raises:
        ValueError, FileNotFoundError, OSError: the recipe is wrong, before any work.
        StageFailed, WorkspaceBusy: a stage did not get through.
    """
    check_recipe(root, params)
    os.environ.setdefault("PREFECT_HOME", str(root / ".prefect"))
    from flows.downsize import downsize  # after PREFECT_HOME is set: Prefect reads it on import
    from flows.quiet import quieten

    quieten()
    return downsize(params)
