"""Two applications with two databases under one operator: the same ids, and nothing of the one's is the other's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from tests.waiting import eventually

from spoke_jobs.model import JobState

from .beside import Scene


@pytest.fixture
def other_url(postgres_ledger_url: str, _migrated_template: str) -> Iterator[str]:
    """A second database with a ledger."""
    admin = create_engine(postgres_ledger_url, isolation_level="AUTOCOMMIT")
    name = f"{make_url(postgres_ledger_url).database}_other"
    with admin.connect() as connection:
        connection.execute(text(f'CREATE DATABASE "{name}" TEMPLATE "{_migrated_template}"'))
    yield make_url(postgres_ledger_url).set(database=name).render_as_string(hide_password=False)
    with admin.connect() as connection:
        connection.execute(text(f'DROP DATABASE "{name}" WITH (FORCE)'))
    admin.dispose()


@pytest.mark.long
@pytest.mark.parametrize("namespaces", [1, 2])
def test_two_applications_with_two_databases(
    beside: Scene, postgres_ledger_url: str, other_url: str, namespaces: int
) -> None:
    """In one namespace, each names a PodTemplate of its own. A job that names the other's finds no row of its own."""
    first = beside.namespace()
    second = first if namespaces == 1 else beside.namespace()
    beside.operator(*{item.namespace: item for item in (first, second)}.values())
    database = beside.database(postgres_ledger_url)
    one = beside.application(first, postgres_ledger_url, database)
    two = beside.application(second, other_url, database, "default" if namespaces == 2 else "other")
    ours = one.dispatch("e2e_echo", "of one", 3, queue_name="q", locks_queue=True)
    theirs = two.dispatch("e2e_echo", "of two", 3, queue_name="q", locks_queue=True)
    assert [job.id for job in ours] == [job.id for job in theirs]
    for application, jobs, result in ((one, ours, "of one"), (two, theirs, "of two")):
        assert application.all_succeed(jobs) == [[]] * 3
        rows = [application.ledger.get(job.id) for job in jobs]
        assert [row and row.result for row in rows] == [result] * 3
    if namespaces == 1:
        two.template = "default"
        (astray,) = two.dispatch("e2e_echo", "by the other's template")

        def failed() -> str | None:
            row = two.ledger.get(astray.id)
            return row.cause if row and row.state is JobState.FAILED else None

        assert eventually(failed, "it is refused") == "NoRow"
        assert one.ledger.get(astray.id) is None
