"""Prefect's console without tracebacks and talk of its own server: a failure is told once, in the last line."""

from __future__ import annotations

import logging
import sys


def _without_traceback(record: logging.LogRecord) -> bool:
    if record.exc_info:
        record.exc_info, record.exc_text = None, None
    return True


def _not_about_the_server(record: logging.LogRecord) -> bool:
    return "temporary server" not in record.getMessage()


def quieten() -> None:
    """Apply both to Prefect's loggers, unless --debug was asked for."""
    if "--debug" in sys.argv:
        return
    names = [name for name in logging.root.manager.loggerDict if name.startswith("prefect")]
    for name in ["prefect", *names]:
        for handler in logging.getLogger(name).handlers:
            handler.addFilter(_without_traceback)
    logging.getLogger("prefect").addFilter(_not_about_the_server)
