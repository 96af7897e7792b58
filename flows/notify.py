"""Tell people, by webhook or e-mail, that a run failed, a promotion was refused, or there is a new champion.

A message that cannot be sent is a line in the log; it never fails what it tells of.
"""

from __future__ import annotations

import json
import logging
import os
import smtplib
import socket
import ssl
from collections.abc import Callable
from email.message import EmailMessage
from functools import wraps
from pathlib import Path
from string import Template
from typing import Any, Concatenate, Final, ParamSpec, Protocol, TypeVar
from urllib.request import Request, urlopen

from tasks.adapters.client import hide_password
from tasks.params import Email, Notify, Params, load_params

P = ParamSpec("P")
M = TypeVar("M", bound="Moved")
log = logging.getLogger(__name__)

TIMEOUT_S: Final = 10
USER, PASSWORD = "DOWNSIZE_SMTP_USER", "DOWNSIZE_SMTP_PASSWORD"


def notify(event: str, params: Params, text: str, flow_run: str = "") -> None:
    """Send `text` wherever the params want to hear of this event: failure, refused or champion."""
    wanted = params.notify
    if event not in wanted.events:
        return
    message = {
        "event": event,
        "text": text,
        "model": params.register_.model_name,
        "host": socket.gethostname(),
        "flow_run": flow_run,
    }
    for way, send in _ways(wanted).items():
        try:
            send(message)
            log.info("notify: %s told by %s", event, way)
        except Exception as error:  # whatever a server or the network does
            log.warning("notify: %s: %s; %s goes untold", way, _secretless(error), event)


def tell_failure(flow: Any, flow_run: Any, state: Any) -> None:
    """Prefect's hook for a flow run that failed or crashed."""
    try:
        params = load_params(Path(flow_run.parameters.get("params", "params.yaml")))
    except (ValueError, OSError) as error:
        log.warning("notify: %s; failure goes untold", error)
        return
    notify("failure", params, f"run {flow_run.name}: {state.message}", str(flow_run.id))


class Moved(Protocol):
    """What a move says of itself."""

    @property
    def action(self) -> str:
        """What was done: promote, rollback or none."""


def announced(move: Callable[Concatenate[Path, Params, P], M]) -> Callable[Concatenate[Path, Params, P], M]:
    """A move of `champion` that tells of itself, and of its refusal."""

    @wraps(move)
    def moving(root: Path, params: Params, /, *args: P.args, **kwargs: P.kwargs) -> M:
        try:
            moved = move(root, params, *args, **kwargs)
        except ValueError as error:
            notify("refused", params, str(error))
            raise
        if moved.action != "none":
            notify("champion", params, str(moved))
        return moved

    return moving


def _ways(wanted: Notify) -> dict[str, Callable[[dict[str, str]], None]]:
    ways: dict[str, Callable[[dict[str, str]], None]] = {}
    if (url := wanted.webhook) is not None:
        ways["webhook"] = lambda message: _post(url, message)
    if (email := wanted.email) is not None:
        ways["e-mail"] = lambda message: _mail(email, message)
    return ways


def _post(url: str, message: dict[str, str]) -> None:
    try:
        address = Template(url).substitute(os.environ)
    except KeyError as error:
        raise ValueError(f"notify.webhook names {error.args[0]}, which the environment lacks") from None
    if not address.startswith(("http://", "https://")):
        raise ValueError("notify.webhook must start with http:// or https://")
    request = Request(address, json.dumps(message).encode(), {"Content-Type": "application/json"})
    with urlopen(request, timeout=TIMEOUT_S):
        pass


def _mail(email: Email, message: dict[str, str]) -> None:
    letter = EmailMessage()
    letter["From"], letter["To"] = email.sender, ", ".join(email.to)
    letter["Subject"] = f"Downsize: {message['event']}, {message['model']}"
    letter.set_content("\n".join(f"{key}: {value}" for key, value in message.items()))
    host, _, port = email.server.partition(":")
    context = ssl.create_default_context()
    tls = email.security == "tls"
    server = (
        smtplib.SMTP_SSL(host, int(port), timeout=TIMEOUT_S, context=context)
        if tls
        else smtplib.SMTP(host, int(port), timeout=TIMEOUT_S)
    )
    with server:
        if email.security == "starttls":
            server.starttls(context=context)
        if user := os.environ.get(USER):
            server.login(user, os.environ.get(PASSWORD, ""))
        server.send_message(letter)


def _secretless(error: Exception) -> str:
    """The error on one line, without what the environment filled in."""
    text = hide_password(" ".join(f"{type(error).__name__}: {error}".split()))
    return text if isinstance(error, ValueError) or "://" not in text else type(error).__name__
