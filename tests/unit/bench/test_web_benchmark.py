"""The pure parts of `make bench-web`: which addresses are asked for, and what is made of the times."""

from __future__ import annotations

import re
from collections import Counter
from datetime import UTC, datetime

import pytest
from starlette.datastructures import QueryParams
from tests.bench.lib.processes import BenchError
from tests.bench.web import application, fill
from tests.bench.web.figures import (
    FILTER,
)
from tests.bench.web.layout import (
    TYPES,
    Lane,
    Layout,
    type_name,
)
from tests.bench.web.live_viewers import Viewer
from tests.bench.web.request_plan import NOT_ASKED, PAIRS, VALUES, VIEWERS, Address, plan

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


def test_the_application_declares_the_types() -> None:
    registry = load_app(application.__name__)
    for number in range(TYPES - 1):
        assert registry.jobs.get(type_name(number))


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


def jobs_filters() -> list[Address]:
    return [each for each in plan(FULL) if each.route == "/jobs" and each.kind == FILTER]


def query_of(each: Address) -> dict[str, str]:
    return dict(QueryParams(each.path.partition("?")[2]))
