"""What a notice says, to a webhook and in Slack."""

from __future__ import annotations

import re
import shlex
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from uuid import UUID

import hypothesis.strategies as st
import pytest
from hypothesis import example, given
from tests.commands import run_command

from spoke_jobs.ledger.notices.notice_values import FailureGroup, GroupName
from spoke_jobs.model import JobFilter, JobState
from spoke_jobs.notices.notice_decisions import Notice, NoticeKind
from spoke_jobs.notices.notice_document import NoticeDocument, ReportedGroup
from spoke_jobs.notices.slack_message import slack_message
from spoke_jobs.web.job_search import read_search

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ID = UUID("01234567-89ab-cdef-0123-456789abcdef")
NAME = GroupName("report", "JobError", "KeyError@shop.f")
PAGE = Path(__file__).parents[3] / "docs/how-to/notify.md"


def group(name: GroupName = NAME, count: int = 2) -> FailureGroup:
    return FailureGroup(name, NOW - timedelta(days=1), NOW, 7, count, NOW - timedelta(hours=1))


def document(*groups: FailureGroup, left_out: int = 0, **changes: Any) -> NoticeDocument:
    notice = Notice(NoticeKind.NEW, groups or (group(),), left_out, sum(each.unreported for each in groups) or 2)
    return NoticeDocument.of(notice, ID, NOW, **({"source": "shop"} | changes))


def test_a_document() -> None:
    assert document().model_dump(mode="json") == {
        "id": str(ID),
        "kind": "new",
        "made_at": "2026-03-01T12:00:00Z",
        "source": "shop",
        "failures": 2,
        "groups": [
            {
                "job_type": "report",
                "cause": "JobError",
                "fingerprint": "KeyError@shop.f",
                "count": 2,
                "oldest_at": "2026-03-01T11:00:00Z",
                "newest_at": "2026-03-01T12:00:00Z",
                "known_since": "2026-02-28T12:00:00Z",
                "job_id": 7,
                "advice": "Read the message: `spoke-jobs show 7`; fix the job or its input, then `spoke-jobs retry "
                "--failed --fingerprint KeyError@shop.f`.",
                "show": "spoke-jobs ls --failed --type report --cause JobError --fingerprint KeyError@shop.f",
                "why": "spoke-jobs why 7",
                "retry": "spoke-jobs retry --failed --type report --cause JobError --fingerprint KeyError@shop.f",
                "link": None,
                "message": None,
            }
        ],
        "groups_left_out": 0,
    }


def test_the_page_lists_each_field() -> None:
    named = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\|([^|]+)\|", PAGE.read_text(), re.MULTILINE))))
    assert NoticeDocument.model_fields.keys() | ReportedGroup.model_fields.keys() <= named


def test_a_message_is_cut_off_and_on_one_line() -> None:
    said = document(messages={7: "first\nsecond\x1b[0m " + "x" * 1_000}).groups[0].message
    assert said is not None
    assert said.startswith(r"first second\x1b[0m xxx")
    assert len(said) == 500
    assert document(messages={}).groups[0].message is None


@pytest.mark.parametrize(
    "name",
    [
        GroupName("a*", "JobError", ""),
        GroupName("", "JobError", ""),
        GroupName("x" * 201, "JobError", ""),
        GroupName("report", "JobError", "E@f\n"),
        GroupName("re\u202eport", "JobError", ""),
        GroupName("report", "JobError", "E`;touch x #@f"),
    ],
)
def test_commands_that_would_select_other_jobs_are_about_one(name: GroupName) -> None:
    (found,) = document(group(name)).groups
    assert (found.show, found.retry) == ("spoke-jobs show 7", "spoke-jobs retry 7")
    assert found.advice == "Read the message: `spoke-jobs show 7`; fix the job or its input, then `spoke-jobs retry 7`."


@given(st.builds(GroupName, st.text(), st.text(), st.text()))
def test_commands_can_be_pasted_whatever_the_names(name: GroupName) -> None:
    (found,) = document(group(name)).groups
    for command in (found.show, found.retry):
        words = shlex.split(command)
        assert words[0] == "spoke-jobs"
        given_values = {value for value in words if value in name}
        options = [word for word in words[1:] if word not in given_values]
        assert set(options) <= {"ls", "show", "retry", "7", "--failed", "--type", "--cause", "--fingerprint"}


HOSTILE = st.lists(st.sampled_from([*"`'\"; #$x", "https://evil.example/", "x" * 300]), max_size=250).map("".join)


@given(st.builds(GroupName, st.sampled_from(["report", "`x"]), st.just("JobError"), HOSTILE))
@example(GroupName("report", "JobError", "E` https://evil.example/ `x@f"))
@example(GroupName("report", "JobError", "https://evil.example/" + "x" * 900))
@example(GroupName("report", "JobError", "https://evil.example/" + "'" * 200))
def test_in_slack_hostile_names_stay_within_code_and_commands_are_as_they_were(name: GroupName) -> None:
    """Slack makes a link of an address that is not marked as code. And people paste the commands."""
    sent = document(group(name))
    text = slack_message(sent)["text"]
    assert "://" not in re.sub("`[^`]*`", "", text)
    retry = text.splitlines()[-2].strip()
    assert unescape(retry[1:-1]) == sent.groups[0].retry


def test_links_to_the_dashboard_select_the_same_jobs() -> None:
    hostile = GroupName("a&b <c>", "JobError", "E@f?x=1#y")
    (found,) = document(group(hostile), dashboard="https://jobs.example/in/").groups
    assert found.link is not None
    address = urlsplit(found.link)
    assert (address.netloc, address.path) == ("jobs.example", "/in/jobs")
    selected = read_search(dict(parse_qsl(address.query))).which
    assert selected == JobFilter((JobState.FAILED,), hostile.job_type, cause=hostile.cause, fingerprint="E@f?x=1#y")
    text = slack_message(document(group(hostile), dashboard="https://jobs.example"))["text"]
    (link,) = re.findall("<([^<>|]*)[|]in the dashboard>", text)
    assert unescape(link) == found.link.replace("/in/", "/")
    one = document(group(GroupName("a*", "JobError", "")), dashboard="https://jobs.example").groups[0]
    assert one.link == "https://jobs.example/jobs/7"


def test_the_commands_exist() -> None:
    (found,) = document().groups
    for command in (found.show, found.why, found.retry):
        assert run_command([*shlex.split(command)[1:], "--help"]).exit_code == 0


def test_slack_gets_a_text() -> None:
    text = slack_message(document(group(), left_out=3))["text"]
    assert text.splitlines() == [
        "*2 jobs failed for a reason that was not known* (shop)",
        (
            "• `report` `JobError` `KeyError@shop.f`: 2 jobs, the first at 2026-03-01 11:00:00 UTC, "
            "the last at 2026-03-01 12:00:00 UTC (job 7)"
        ),
        (
            "    Read the message: `spoke-jobs show 7`; fix the job or its input, then `spoke-jobs retry --failed "
            "--fingerprint KeyError@shop.f`."
        ),
        "    `spoke-jobs why 7`",
        "    `spoke-jobs retry --failed --type report --cause JobError --fingerprint KeyError@shop.f`",
        "3 further groups: `spoke-jobs why`",
        f"notice {ID}",
    ]


@given(st.builds(GroupName, st.text(), st.text(), st.text()), st.text(), st.text())
def test_nothing_in_slack_is_a_link_a_mention_or_a_line_of_its_own(name: GroupName, source: str, message: str) -> None:
    hostile = document(group(name), source=source, messages={7: message})
    text = slack_message(hostile)["text"]
    assert "<" not in text
    assert ">" not in text
    assert not re.search("&(?!amp;|lt;|gt;)", text)
    assert len(text.splitlines()) <= 7


def test_slack_shows_as_much_as_it_can() -> None:
    groups = [group(GroupName("t" * 180 + str(number), "c" * 90, "f" * 200)) for number in range(20)]
    text = slack_message(document(*groups, left_out=5, messages=dict.fromkeys([7], "<" * 900)))["text"]
    assert len(text) < 40_000, "Slack cuts off longer ones"
    assert "15 further groups" in text
