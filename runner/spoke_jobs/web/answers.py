"""What the pages answer to requests, and which requests they answer. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from typing import Any, Protocol

from sqlalchemy.exc import DBAPIError

from spoke_jobs.contract.option_checks import LARGEST_ID
from spoke_jobs.explain.shape import Shape
from spoke_jobs.ledger.engine import is_away, is_locked, is_not_allowed, is_timed_out
from spoke_jobs.web.query_values import Parameter, whole_number
from spoke_jobs.web.viewer import JobAction, Viewer


@dataclass(frozen=True, slots=True)
class Page:
    """A page to be made from a template."""

    template: str
    values: Mapping[str, Any] = field(default_factory=dict)
    status: int = 200
    live: bool = False
    """Whether browsers read it again when something may have changed."""


@dataclass(frozen=True, slots=True)
class Redirect:
    """Another page to go to."""

    path: str


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """An address of another site to go to. Nobody who makes a link chooses it."""

    address: str


Answer = Page | Redirect | Elsewhere


@dataclass(frozen=True, slots=True)
class Document:
    """An answer of the JSON API."""

    value: Shape
    newer: str = ""
    """The address of the same list with newer entries, below the API's; empty if there is none."""
    older: str = ""


def refusal(title: str, text: str, status: int, path: str = "/", back: str = "To the overview") -> Page:
    """Return a page that says why something is refused.

    :param path: where its link leads.
    :param back: the link's text.
    """
    return Page("message.html", {"title": title, "text": text, "path": path, "back": back}, status)


OF_ALL_ONLY = refusal(
    "Not allowed", "This concerns the jobs of all organizations, and you may see those of some only.", 403
)
NARROWER = "Choose narrower filters: a type, a queue or an organization."
"""What to do about a page of jobs for which the database takes too long."""
LATER = "Try again when the database has less to do."
"""The same where there is nothing to choose."""
NO_SUCH_BATCH = "There is no such batch, it was pruned, or you may not see it."
PAYLOAD_LIMIT_BYTES = 100_000
"""The largest payload that is shown; `spoke-jobs show --payload` shows larger ones."""
NOT_FOUND = refusal("Not found", "There is no such job, it was pruned, or you may not see it.", 404)


def unchanged_job(job_id: int, text: str, status: int = 409) -> Page:
    """Return a page that says why a job was not changed."""
    return refusal("Nothing was changed", text, status, f"/jobs/{job_id}", "Back to the job")


@dataclass(frozen=True, slots=True)
class Asked:
    """A request."""

    parameters: Mapping[str, str]
    """The variable parts of its path, by name."""
    given: Mapping[str, str]
    """Its query or its form."""
    zone: tzinfo = UTC
    """The reader's time zone."""

    def id(self, name: str) -> int | None:
        """Return the id in its path; None if it can be none."""
        return whole_number(self.parameters[name], 1, LARGEST_ID)


@dataclass(frozen=True, slots=True)
class Reading:
    """A page."""

    path: str
    """As a route of Starlette."""
    read: Callable[[Viewer, Asked], Answer]
    needs: JobAction | None = None
    """What its viewers must be allowed to do."""
    of_all: bool = False
    """Whether only viewers of all organizations may see it."""
    too_slow: str = NARROWER
    """What to do if the database takes too long."""


@dataclass(frozen=True, slots=True)
class ApiReading:
    """A request of the JSON API. Its OpenAPI document follows from these."""

    path: str
    """Below the API's, as a route of Starlette."""
    read: Callable[[Viewer, Asked], Document | Page]
    """A page that refuses becomes a problem document."""
    command: str
    """The command whose `--json` prints the same."""
    shape: type[Shape]
    """The form of the document."""
    summary: str
    """What the document has, as a sentence."""
    parameters: tuple[Parameter, ...] = ()
    of_all: bool = False
    """Whether only viewers of all organizations may see it."""
    too_slow: str = LATER

    @property
    def refuses(self) -> bool:
        """Whether some viewers may not see it, or not with each parameter."""
        return self.of_all or any(parameter.name == "payload" for parameter in self.parameters)

    @property
    def ids(self) -> tuple[str, ...]:
        """The names of the ids in its path."""
        return tuple(re.findall(r"{(\w+)}", self.path))


@dataclass(frozen=True, slots=True)
class Acting:
    """A form that changes something."""

    path: str
    act: Callable[[Viewer, Asked], Answer]
    needs: JobAction
    of_all: bool = False


class Room(Protocol):
    """Pages that belong together."""

    def routes(self) -> Iterable[Reading | Acting]:
        """Yield the requests that it answers."""


def not_allowed(needs: JobAction) -> Page:
    """Return what somebody sees who may not do it."""
    return refusal("Not allowed", f"You may not {needs.phrase}.", 403)


def database_problem(
    error: DBAPIError, statement_seconds: float, *, too_slow: str = NARROWER, changes: bool = False
) -> Page | None:
    """Return what to say about an error of the database; None if it is unexpected.

    :param statement_seconds: how long a statement may take.
    :param too_slow: what to do if a page takes longer.
    :param changes: whether an action has ended with it. One that took too long has changed nothing.
    """
    if is_timed_out(error) and changes:
        return refusal(
            "This takes too long",
            f"The database did not answer within {statement_seconds:g} s, perhaps because another transaction has "
            "locked what this changes. Nothing was changed. Try again.",
            503,
        )
    if is_timed_out(error):
        return refusal(
            "This takes too long",
            f"The database did not answer within {statement_seconds:g} s, so the query was ended. {too_slow}",
            503,
        )
    if is_locked(error):
        return refusal("Locked", "Another transaction has locked what this changes. Try again when it has ended.", 503)
    if is_not_allowed(error):
        return refusal("Not allowed", "The dashboard's database role may not do this: docs/deploying.md says why.", 503)
    if is_away(error):
        return refusal("The database is away", "It can't be reached now. Try again in a moment.", 503)
    return None
