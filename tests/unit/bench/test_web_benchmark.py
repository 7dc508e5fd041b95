"""The pure parts of `make bench-web`: which addresses are asked for, and what is made of the times."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from starlette.datastructures import QueryParams
from tests.bench.lib.processes import BenchError
from tests.bench.web import application, fill
from tests.bench.web.figures import (
    ALL,
    FILTER,
    ONE,
    PAGE,
    Timed,
    claims_ratio,
    delays,
    for_programs,
    slowest,
)
from tests.bench.web.kept_database import disk_problem, is_recent
from tests.bench.web.layout import (
    BLOCKED,
    ORGANIZATIONS,
    TYPES,
    Lane,
    Layout,
    runs_in_pods,
    type_name,
)
from tests.bench.web.live_viewers import Viewer
from tests.bench.web.page_times import ENOUGH_SECONDS, LEAST, is_enough
from tests.bench.web.request_plan import NOT_ASKED, PAIRS, VALUES, VIEWERS, Address, plan
from tests.bench.web.settings import Settings
from tests.bench.web.tables import for_docs, for_people

from spoke_jobs.contract.causes import CAUSES
from spoke_jobs.ledger.engine import create_engine
from spoke_jobs.ledger.tables import metadata
from spoke_jobs.limits.job_limit import parse_scope
from spoke_jobs.registry import load_app
from spoke_jobs.web.authorizers import LocalOnly
from spoke_jobs.web.change_stream import BEGIN, EVENT
from spoke_jobs.web.cluster_reads import ClusterReads
from spoke_jobs.web.dashboard import Dashboard
from spoke_jobs.web.job_search import FILTERS, read_search
from spoke_jobs.web.viewer import Viewer as WebViewer

FULL = Layout(10_000_000, 100_000)
QUICK = Layout(200_000, 100_000)
NOW = datetime(2026, 12, 1, tzinfo=UTC)


def routes() -> set[str]:
    """The dashboard's own, of those that read."""
    engine = create_engine("sqlite:////nowhere/jobs.sqlite3")
    dashboard = Dashboard(engine, LocalOnly(WebViewer(name="ada")), ClusterReads(""), runner="legacy")
    found = {route.path for route in dashboard.routes() if "GET" in (route.methods or ())}
    dashboard.close()
    return found


def test_every_page_of_the_dashboard_is_asked_for() -> None:
    """A new page fails here until the plan has it."""
    assert {each.route for each in plan(FULL)} | set(NOT_ASKED) == routes()
    assert not {each.route for each in plan(FULL)} & set(NOT_ASKED)


def test_an_address_belongs_to_its_route() -> None:
    for each in plan(FULL):
        assert re.fullmatch(re.sub(r"{\w+}", r"[^/]+", each.route), each.path.partition("?")[0]), each


def test_every_filter_of_the_jobs_is_asked_for_alone() -> None:
    alone = [query for each in jobs_filters() if len(query := query_of(each)) == 1]
    assert {name for query in alone for name in query} == set(FILTERS)
    assert all(len(values) > 1 for name, values in VALUES.items() if name != "batch")
    for each in jobs_filters():
        assert not read_search(query_of(each)).problems, each
    assert {len(pair) for pair in PAIRS} == {2}


def test_no_address_is_asked_for_twice() -> None:
    assert [key for key, count in Counter(each.key for each in plan(FULL)).items() if count > 1] == []
    for viewer in VIEWERS:
        assert len({each.path for each in plan(FULL) if each.viewer == viewer}) > 20


def test_viewers_of_one_organization_ask_for_what_they_may_see() -> None:
    for each in plan(FULL):
        if each.viewer != ALL:
            assert not each.route.startswith(("/tasks", "/cluster")), each


@pytest.mark.parametrize("layout", [FULL, QUICK, Layout(20_000, 500)])
def test_recent_jobs_have_ids_of_their_own(layout: Layout) -> None:
    assert layout.history + layout.recent_finished == layout.rows
    seen: set[int] = set()
    for lane in Lane:
        count = layout.counted(lane)
        ids = [layout.recent_id(lane, number) for number in range(0, count, max(count // 10_000, 1))]
        assert ids == sorted(set(ids))
        assert layout.history < ids[0]
        assert layout.recent_id(lane, count - 1) <= layout.last_id
        assert not seen & set(ids)
        seen |= set(ids)


@pytest.mark.parametrize("layout", [FULL, QUICK, Layout(20_000, 500)])
def test_a_blocked_job_depends_on_an_older_one(layout: Layout) -> None:
    """The statement computes the same ids."""
    for number in range(BLOCKED):
        needed = layout.recent_id(Lane.WAITING, number * layout.waiting // BLOCKED)
        assert needed < layout.recent_id(Lane.BLOCKED, number)


def test_the_jobs_that_are_shown_are_of_workers_where_claims_count() -> None:
    shown = {each.name: int(each.path.rpartition("/")[2]) for each in plan(FULL) if each.route == "/jobs/{job_id}"}
    assert not runs_in_pods(shown["Job, waiting, the first"])
    assert shown["Job, waiting, the first"] < shown["Job, waiting, the last"] <= FULL.last_id


def test_there_are_as_many_names_as_promised() -> None:
    names = {type_name(number) for number in range(TYPES - 1)}
    assert len(names) == TYPES - 1
    for each in (value for value in VALUES["type"].values() if ".task" in str(value) and "*" not in str(value)):
        assert each in names
    assert all(0 < int(str(VALUES["organization"][case])) <= ORGANIZATIONS for case in ("many", "some", "few, old"))
    for case in ("many", "some", "few, old"):
        assert str(VALUES["cause"][case]) in CAUSES


def statements(layout: Layout) -> list[fill.Step]:
    now = NOW.isoformat()
    return [*fill.history(layout, now), *fill.clearing(layout), *fill.recent(layout, now)]


def test_the_statements_name_columns_that_exist() -> None:
    """On PostgreSQL alone they run: a wrong name would show after minutes."""
    for what, statement in statements(QUICK):
        for table, columns in re.findall(r"INSERT INTO (\w+) \(([^)]+)\)", statement):
            named = [name.strip() for name in columns.split(",")]
            known = metadata.tables[table].columns
            assert not set(named) - set(known.keys()), what
            assert len(named) == len(set(named)), what
            needed = {
                column.name
                for column in known
                if not column.nullable and column.server_default is None and column.autoincrement is not True
            }
            assert not needed - set(named), what


def test_the_statements_write_every_table_that_pages_read() -> None:
    written = {table for _, statement in statements(QUICK) for table in re.findall(r"INSERT INTO (\w+)", statement)}
    assert written | {"job_schedule"} >= {
        *("job_request", "job_attempt", "job_batch", "job_dependency", "queue_lock", "task_outbox"),
        *("job_event", "job_limit", "job_schedule", "notice_mute", "task_replica"),
    }
    for scope in re.findall(
        r"\('(\w+:[\w.]+)'", next(step.statement for step in statements(QUICK) if step.what == "limits")
    ):
        assert str(parse_scope(scope)) == scope


def test_each_job_of_the_history_is_written_once() -> None:
    series = [
        (int(first), int(last))
        for _, statement in fill.history(FULL, NOW.isoformat())
        if "INSERT INTO job_request" in statement
        for first, last in re.findall(r"generate_series\((\d+)::bigint, (\d+)::bigint\)", statement)
    ]
    assert series[0][0] == 1
    assert series[-1][1] == FULL.history
    assert all(following[0] == last + 1 for (_, last), following in itertools.pairwise(series))


def test_another_history_is_not_taken_for_this_one() -> None:
    assert fill.fingerprint(FULL) == fill.fingerprint(Layout(10_000_000, 100_000))
    assert fill.fingerprint(FULL) != fill.fingerprint(QUICK)
    assert is_recent(NOW - timedelta(days=6), NOW)
    assert not is_recent(NOW - timedelta(days=8), NOW)


def test_too_small_a_disk_is_refused_with_what_to_do() -> None:
    assert disk_problem(10**9, 10**9, ()) == ""
    assert disk_problem(10**9, None, ()) == ""
    said = disk_problem(19 * 10**9, 4 * 10**9, ["bench_web_7"])
    assert "19 GB" in said
    assert "the disk has 4 GB" in said
    assert "bench_web_7" in said
    assert "ROWS=" in said


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="ROWS"):
        Layout(100, 100_000)


def test_the_application_declares_the_types() -> None:
    registry = load_app(application.__name__)
    for number in range(TYPES - 1):
        assert registry.jobs.get(type_name(number))


def test_settings_come_from_the_environment() -> None:
    assert Settings.of({}).full
    quick = Settings.of({"ROWS": "200000", "PARTS": "pages,claims", "KEEP": "no"})
    assert (quick.rows, quick.parts, quick.keep, quick.full) == (200_000, ("pages", "claims"), False, False)
    with pytest.raises(ValueError, match="PARTS has page:"):
        Settings.of({"PARTS": "page"})


def test_what_takes_long_is_asked_less_often() -> None:
    assert not is_enough([ENOUGH_SECONDS] * (LEAST - 1))
    assert is_enough([ENOUGH_SECONDS] * LEAST)
    assert not is_enough([0.01] * 1_000)


def test_a_viewer_is_told_at_their_next_event() -> None:
    assert delays([1.0, 2.0, 5.0], [[2.0, 4.0], [6.0]]) == [1.0, 0.0, 5.0, 4.0, 1.0]


def test_events_are_counted_however_they_arrive() -> None:
    viewer = Viewer()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
    viewer.take(head + BEGIN[:4], 1.0)
    assert not viewer.began
    viewer.take(BEGIN[4:] + EVENT + EVENT[:9], 2.0)
    assert viewer.began
    viewer.take(EVENT[9:], 3.0)
    assert viewer.events == [2.0, 3.0]
    with pytest.raises(BenchError, match="no stream"):
        Viewer().take(b"HTTP/1.1 503 Service Unavailable\r\n\r\n" + BEGIN, 1.0)


FAST = Timed(ALL, PAGE, "Jobs", "/jobs", [10.0, 20.0, 30.0], 9_000, 0)
SLOW = Timed(ONE, PAGE, "Overview", "/", [90.0, 110.0, 130.0], 5_000, 0)
GONE = Timed(ALL, FILTER, "type: *", "/jobs?type=*", [3_000.0], 800, 1)


def figures(**more: Any) -> Mapping[str, Any]:
    times = [{name: getattr(each, name) for name in Timed.__dataclass_fields__} for each in (FAST, SLOW, GONE)]
    return {"settings": {"rows": 10_000_000}, "pages": times, **more}


def test_the_worst_page_is_the_figure() -> None:
    found = slowest([FAST, SLOW, GONE], PAGE)
    assert found is SLOW
    assert for_programs(figures()) == {
        "rows": 10_000_000,
        "page_p95_ms": 128.0,
        "pages_over": 1,
        "pages": 2,
        "filter_p95_ms": 3_000.0,
        "filters_over": 1,
        "filters": 1,
    }


def test_an_answer_that_is_another_page_misses_the_aim_however_soon_it_comes() -> None:
    assert not FAST.is_over
    assert Timed(ALL, PAGE, "Jobs", "/jobs", [10.0], 1, 1).is_over


def test_the_last_line_has_what_was_measured() -> None:
    stream = {"viewers": 50, "changes_per_second": 199.6, "cpu_percent": 12.34, "told_p50": 2.0, "told_p95": 3.21}
    line = for_programs(
        figures(
            stream=stream,
            claims={"readers": 5, "pairs": [[100.0, 99.0], [200.0, 190.0], [100.0, 100.0]], "pages_per_second": 1.7},
            timeout={"said": True, "seconds": 3.01, "other_ms": 8.0},
        )
    )
    assert line["stream_cpu_percent"] == 12.3
    assert line["claims_ratio"] == 0.99
    assert (line["timeout_said"], line["timeout_s"]) == (True, 3.01)
    assert claims_ratio([(100.0, 50.0)]) == 0.5


def test_the_docs_list_all_pages_and_the_filters_that_miss_the_aim() -> None:
    near = {**figures()["pages"][2], "name": "state: failed", "milliseconds": [40.0], "wrong": 0}
    page = for_docs({**figures(), "pages": [*figures()["pages"], near]})
    assert "| pages, the slowest at p95 | 128 ms | at most 100 ms |" in page
    assert "| filters that miss it | 1 of 2 | 0 |" in page
    assert "| all | Jobs | 20.0 | 29.0 | 30.0 | 9.0 |  |" in page
    assert "| one, of medium size | Overview | 110 | 128 | 130 | 5.0 | over 100 |" in page
    assert r"type: \* | 3,000 | 3,000 | 3,000 | 0.8 | 1 of 1 not answered |" in page
    assert "| state: failed |" not in page
    assert "The other 1 filters are within the aim; the slowest takes 40 ms (state: failed)." in page
    assert "state: failed" in for_people({**figures(), "pages": [near]})


def jobs_filters() -> list[Address]:
    return [each for each in plan(FULL) if each.route == "/jobs" and each.kind == FILTER]


def query_of(each: Address) -> dict[str, str]:
    return dict(QueryParams(each.path.partition("?")[2]))
