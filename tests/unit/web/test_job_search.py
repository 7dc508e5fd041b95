"""The filters in the address of the list of jobs."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from urllib.parse import parse_qsl, urlsplit
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from spoke_jobs.ledger.reading.dashboard_queries import Place
from spoke_jobs.model import ANY_JOB, JobFilter, JobState
from spoke_jobs.web.job_search import address, decoded, encoded, read_search
from spoke_jobs.web.query_values import TEXT_LIMIT

NAMES = ("id", "state", "organization", "batch", "lane", "type", "queue", "cause", "key", "fingerprint")
NAMES += ("schedule", "since", "until", "before", "after")


def test_each_filter_is_read() -> None:
    search = read_search(
        {
            "state": "failed",
            "type": "sync_*",
            "queue": " q ",
            "organization": "7",
            "cause": "OOM",
            "key": "k",
            "batch": "5",
            "lane": "standby",
            "schedule": "nightly report",
            "x": "y",
        }
    )
    assert search.which == JobFilter(
        states=(JobState.FAILED,),
        job_type="sync_*",
        queue_name="q",
        organization_id=7,
        cause="OOM",
        unique_key="k",
        batch_id=5,
        lane="standby",
        schedule="nightly report",
    )
    assert search.problems == {}
    given = {"state", "type", "queue", "organization", "cause", "key", "batch", "lane", "schedule"}
    assert set(search.given) == given


def test_times_are_in_the_readers_zone_unless_they_say_so() -> None:
    kathmandu = ZoneInfo("Asia/Kathmandu")
    search = read_search({"since": "2026-03-01T08:00", "until": "2026-03-01T08:00Z"}, kathmandu)
    assert search.which == JobFilter(
        since=datetime(2026, 3, 1, 2, 15, tzinfo=UTC), until=datetime(2026, 3, 1, 8, 0, tzinfo=UTC)
    )
    assert search.given == {"since": "2026-03-01T02:15Z", "until": "2026-03-01T08:00Z"}
    assert search.local == {"since": "2026-03-01T08:00", "until": "2026-03-01T13:45"}
    assert read_search(search.given).which == search.which, "an address says the same to everybody"
    for text in ("soon", "2026-02-30T00:00", "0001-01-01T00:00", "9999-12-31T23:59-10:00"):
        found = read_search({"since": text}, kathmandu)
        assert (set(found.problems), found.which) == ({"since"}, ANY_JOB)


@given(st.datetimes(timezones=st.timezones()), st.timezones())
def test_any_time_is_read_and_written_back(time: datetime, zone: tzinfo) -> None:
    search = read_search({"since": time.isoformat()}, zone)
    if not search.problems:
        assert read_search(search.given, zone).which == search.which
        assert len(search.local["since"]) == len("2026-03-01T08:00"), "as a field takes it"


def test_an_empty_filter_is_none() -> None:
    search = read_search(dict.fromkeys(NAMES, " "))
    assert (search.which, search.given, search.problems) == (ANY_JOB, {}, {})


def test_a_page_is_before_or_after_a_job() -> None:
    assert read_search({"before": "7"}).place == Place(before=7)
    assert read_search({"after": "0"}).place == Place(after=0)
    assert read_search({"before": "7", "after": "3"}).place == Place(before=7)
    assert read_search({"before": "-7", "after": "٣"}).place == Place()


def test_a_wrong_filter_does_not_select_all_jobs() -> None:
    for name, value in (
        ("state", "gone"),
        ("organization", "-1"),
        ("batch", "x"),
        ("id", "0"),
        ("type", "x" * (TEXT_LIMIT + 1)),
    ):
        search = read_search({name: value})
        assert set(search.problems) == {name}, "the page shows no job then"


@given(st.dictionaries(st.sampled_from(NAMES), st.text()))
def test_any_text_is_read_and_written_back(query: dict[str, str]) -> None:
    search = read_search(query)
    path = address("/jobs", **search.given)
    again = read_search(dict(parse_qsl(urlsplit(path).query, keep_blank_values=True)))
    if not search.problems:
        assert (again.which, again.job_id, again.given) == (search.which, search.job_id, search.given)
    assert path.isascii()


@given(st.text())
def test_a_form_sends_any_text_as_it_is(text: str) -> None:
    """Also characters that a page shows as escapes."""
    hidden = encoded(text)
    assert hidden.isascii()
    assert hidden.isprintable()
    assert decoded(hidden) == text.encode("utf-8", "replace").decode()
