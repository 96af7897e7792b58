"""From the command line into the flow: check first, have a Prefect server, tell a failure once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flows.check import check_recipe
from flows.child import warm_process
from flows.server import prefect_server
from flows.workspace import Where


def launch(root: Path, params: Path, where: Where = "own") -> dict[str, Any]:
    """Check and run the recipe of `params`; returns its summary and workspace.

    Raises:
        ValueError, FileNotFoundError, OSError: the recipe is wrong, before any work.
        ConnectionError: no Prefect server at PREFECT_API_URL.
        StageFailed, WorkspaceBusy, Unreachable: a stage did not get through.
    """
    with prefect_server(root) as wait_for_server, warm_process():
        check_recipe(root, params)
        from prefect.logging.handlers import APILogHandler  # Prefect reads its settings on import

        from flows.downsize import downsize
        from flows.quiet import quieten

        quieten()
        wait_for_server()
        try:
            return downsize(params, where)
        finally:
            APILogHandler().flush()  # while there is a server to take the last lines
