"""timeouts, schedule, notify: how a run is watched over; none of it changes a result."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import StringConstraints, field_validator, model_validator

from tasks.params.section import Count, Positive, Section

Address = Annotated[str, StringConstraints(pattern=r"^[^\s@]+@[^\s@]+$")]
Server = Annotated[str, StringConstraints(pattern=r"^[^\s:@/]+:\d+$")]


class Timeouts(Section):
    """Seconds after which a stage, or the whole run, is stopped. None: never."""

    stage_s: Positive = 21600.0
    run_s: Positive | None = None


class Watch(Section):
    """What starts a run beside the clock, looked at every so often.

    data: what ingest reads has another DVC hash. command: it ends with exit code 3, as `downsize drift` does.
    """

    every_s: Positive = 300.0
    data: bool = True
    command: str | None = None


class Timetable(Section):
    """When `downsize serve` runs the pipeline, and what with a run that meets another.

    pull: run the newest commit of the branch's upstream, and fetch from the DVC remote. push: to the DVC remote.
    """

    cron: str | None = None
    timezone: str | None = None
    interval_s: Count | None = None
    overlap: Literal["queue", "cancel"] = "queue"
    pull: bool = True
    push: bool = True
    watch: Watch | None = None

    @field_validator("cron")
    @classmethod
    def _five_fields(cls, cron: str | None) -> str | None:
        if cron is not None and len(cron.split()) != 5:
            raise ValueError("needs five fields: minute hour day month weekday, such as '0 3 * * *' for 3 a.m.")
        return cron

    @model_validator(mode="after")
    def _one_clock(self) -> Timetable:
        if self.cron and self.interval_s:
            raise ValueError("cron and interval_s exclude each other; set one of them to null")
        return self


class Email(Section):
    """User and password come from DOWNSIZE_SMTP_USER and DOWNSIZE_SMTP_PASSWORD."""

    to: list[Address]
    sender: Address
    server: Server = "localhost:25"
    security: Literal["none", "starttls", "tls"] = "none"


class Notify(Section):
    """Who is told of what. In `webhook`, ${NAME} stands for the environment's variable NAME."""

    webhook: str | None = None
    email: Email | None = None
    events: list[Literal["failure", "refused", "champion"]] = ["failure", "refused", "champion"]

    @field_validator("webhook")
    @classmethod
    def _without_secrets(cls, url: str | None) -> str | None:
        if url is None:
            return url
        if not re.match(r"https?://|\$\{\w+\}", url):
            raise ValueError("must start with http://, https:// or ${VARIABLE}")
        if re.search(r"://[^/]*:(?!\$\{\w+\}@)[^/@]+@", url):
            raise ValueError("holds a password; write ${VARIABLE} in its place and set that in the environment")
        return url
