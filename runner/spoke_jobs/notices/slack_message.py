"""A notice as a message for an incoming webhook of Slack. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from spoke_jobs.explain.words import count
from spoke_jobs.notices.notice_decisions import NoticeKind
from spoke_jobs.notices.notice_document import NoticeDocument, ReportedGroup

_SHOWN = 10
"""More groups than that would be longer than Slack shows."""
_FAILED = {
    NoticeKind.NEW: "failed for a reason that was not known",
    NoticeKind.DIGEST: "failed again for known reasons",
}


def slack_message(notice: NoticeDocument) -> dict[str, Any]:
    """Return the JSON that Slack takes."""
    return {"text": "\n".join(_lines(notice)), "unfurl_links": False, "unfurl_media": False}


def escaped(text: str) -> str:
    """Replace the characters by which Slack recognizes links, mentions and entities."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _lines(notice: NoticeDocument) -> Iterator[str]:
    of = f" ({escaped(notice.source)})" if notice.source else ""
    failed = _FAILED.get(notice.kind)
    yield f"*{count(notice.failures, 'job')} {failed}*{of}" if failed else f"*A test: no job has failed*{of}"
    for group in notice.groups[:_SHOWN]:
        yield from _group(group)
    if left_out := len(notice.groups[_SHOWN:]) + notice.groups_left_out:
        yield f"{count(left_out, 'further group')}: {_code('spoke-jobs why')}"
    yield f"notice {notice.id}"


def _group(group: ReportedGroup) -> Iterator[str]:
    names = " ".join(_code(name) for name in (group.job_type, group.cause, group.fingerprint) if name)
    last = f"the last at {_clock(group.newest_at)}"
    when = last if group.count == 1 else f"the first at {_clock(group.oldest_at)}, {last}"
    yield f"• {names}: {count(group.count, 'job')}, {when} (job {group.job_id})"
    if group.message:
        yield f"    {_code(group.message)}"
    if group.advice:
        yield f"    {escaped(group.advice)}"
    yield f"    {_code(group.why)}{f' or <{escaped(group.link)}|in the dashboard>' if group.link else ''}"
    yield f"    {_code(group.retry)}"


def _code(text: str) -> str:
    """Return a text in which Slack formats nothing. It knows no escape for a backtick."""
    return f"`{escaped(text.replace('`', chr(39)))}`"


def _clock(when: datetime) -> str:
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
