"""Prefect's console without tracebacks: a failure is told once, in the command's last line."""

from __future__ import annotations

import logging
import sys


class _OneLine(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info:
            record.exc_info, record.exc_text = None, None
        return True


def without_tracebacks() -> None:
    """Apply to the handlers of Prefect's loggers, unless --debug was asked for."""
    if "--debug" in sys.argv:
        return
    names = [name for name in logging.root.manager.loggerDict if name.startswith("prefect")]
    for name in ["prefect", *names]:
        logger = logging.getLogger(name)
        for handler in logger.handlers:
            handler.addFilter(_OneLine())
