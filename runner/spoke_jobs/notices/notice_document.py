"""The document of a notice, as a webhook receives it. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from datetime import datetime
from typing import Self
from urllib.parse import urlencode
from uuid import UUID

from spoke_jobs.contract.advice import advice, failed_group_advice
from spoke_jobs.explain.shape import Shape
from spoke_jobs.explain.words import line
from spoke_jobs.ledger.notices.notice_values import FailureGroup, GroupName
from spoke_jobs.notices.notice_decisions import Notice, NoticeKind
from spoke_jobs.type_names import NAME_LIMIT

_CAUSE_LIMIT, _FINGERPRINT_LIMIT, _ADVICE_LIMIT, _MESSAGE_LIMIT, _SOURCE_LIMIT = 100, 250, 800, 500, 100


class ReportedGroup(Shape):
    """Failed jobs with the same type, cause and fingerprint."""

    job_type: str
    cause: str
    fingerprint: str
    """Empty if there is none."""
    count: int
    """How many jobs failed since the last notice about the group."""
    oldest_at: datetime
    """When the first of them failed."""
    newest_at: datetime
    """When the last of them failed."""
    known_since: datetime
    """When the group's first job failed."""
    job_id: int
    """One of them, the newest."""
    advice: str
    """What to do. Empty if this release does not know the cause."""
    show: str
    """The command that lists these jobs; if their names do not fit into a command, one that shows the newest."""
    why: str
    """The command that explains the newest one."""
    retry: str
    """The command that retries them."""
    link: str | None = None
    """The dashboard's page of these jobs, if its address is known."""
    message: str | None = None
    """Why the newest one failed, if that was asked for."""

    @classmethod
    def of(cls, group: FailureGroup, message: str | None, dashboard: str) -> Self:
        """Describe a group. Other code may have written any names, so each text has a bound."""
        name, job_id = group.name, group.job_id
        selected = _filters(name)
        show, retry = f"spoke-jobs show {job_id}", f"spoke-jobs retry {job_id}"
        if selected is not None:
            show, retry = f"spoke-jobs ls --failed {selected}", f"spoke-jobs retry --failed {selected}"
        return cls(
            job_type=line(name.job_type, NAME_LIMIT),
            cause=line(name.cause, _CAUSE_LIMIT),
            fingerprint=line(name.fingerprint, _FINGERPRINT_LIMIT),
            count=group.unreported,
            oldest_at=group.oldest_at or group.newest_at,
            newest_at=group.newest_at,
            known_since=group.known_since,
            job_id=job_id,
            advice=line(_advice(name, job_id, of_all=selected is not None), _ADVICE_LIMIT),
            show=show,
            why=f"spoke-jobs why {job_id}",
            retry=retry,
            link=_link(dashboard, name, None if selected is not None else job_id) if dashboard else None,
            message=None if message is None else line(message, _MESSAGE_LIMIT),
        )


class NoticeDocument(Shape):
    """A notice."""

    id: UUID
    """The same at each try."""
    kind: NoticeKind
    made_at: datetime
    source: str
    """The name of the system (SPOKE_NOTIFY_NAME)."""
    failures: int
    """How many jobs it is about, with those of groups that are left out."""
    groups: tuple[ReportedGroup, ...]
    """At most 20, the largest first."""
    groups_left_out: int
    """How many further groups there are."""

    @classmethod
    def of(
        cls,
        notice: Notice,
        notice_id: UUID,
        made_at: datetime,
        *,
        source: str = "",
        dashboard: str = "",
        messages: Mapping[int, str] | None = None,
    ) -> Self:
        """Write a notice.

        :param dashboard: its address; empty if there is none.
        :param messages: why jobs failed, by their ids; None if nobody asked for that.
        """
        return cls(
            id=notice_id,
            kind=notice.kind,
            made_at=made_at,
            source=line(source, _SOURCE_LIMIT),
            failures=notice.failures,
            groups=tuple(
                ReportedGroup.of(group, None if messages is None else messages.get(group.job_id), dashboard)
                for group in notice.groups
            ),
            groups_left_out=notice.left_out,
        )


def _link(dashboard: str, name: GroupName, job_id: int | None) -> str:
    """Return the address of the page that lists the group's jobs or, with an id, of that job's page."""
    if job_id is not None:
        return f"{dashboard.rstrip('/')}/jobs/{job_id}"
    given = {"state": "failed", "type": name.job_type, "cause": name.cause, "fingerprint": name.fingerprint}
    return f"{dashboard.rstrip('/')}/jobs?{urlencode({key: value for key, value in given.items() if value})}"


def _advice(name: GroupName, job_id: int, *, of_all: bool) -> str:
    """Return what to do. What would be cut off, perhaps within a command, is about one job.

    :param of_all: whether the names fit into a command.
    """
    text = failed_group_advice(name.cause, name.fingerprint, job_id)
    return text if of_all and len(text) <= _ADVICE_LIMIT else advice(name.cause, "", job_id)


def _filters(name: GroupName) -> str | None:
    """Return the options that select the group's jobs; None if a name does not fit into a command as it is.

    Without one of the names, the command would select other jobs as well: jobs without a fingerprint have an empty one.
    A name with a backtick does not fit: in a message, it would end what is marked as code, and no quotes would hold the
    rest.
    """
    options = (
        ("--type", name.job_type, NAME_LIMIT),
        ("--cause", name.cause, _CAUSE_LIMIT),
        ("--fingerprint", name.fingerprint, _FINGERPRINT_LIMIT),
    )
    if "*" in name.job_type or not name.job_type:
        return None
    if any(line(value, limit) != value or "`" in value for _, value, limit in options):
        return None
    return " ".join(f"{option} {shlex.quote(value)}" for option, value, _ in options)
