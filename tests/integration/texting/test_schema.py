"""The application's tables: made, and brought up to date beside the library's, with what the first release wrote."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine
from sqlalchemy.orm import Session
from tests.integration.texting.making import BOTH

from spoke_jobs.ledger.engine import create_engine
from spoke_jobs.ledger.migrations import migrate
from spoke_jobs.ledger.tables import include_object
from texting.models import Assigning, Assignment, Base, Campaign, Contact
from texting.schema import FIRST, VERSION_TABLE, create_tables

WHEN = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)


@pytest.fixture
def engine(texting_database_url: str) -> Iterator[Engine]:
    engine = create_engine(texting_database_url)
    yield engine
    engine.dispose()


def differences(engine: Engine) -> list[Any]:
    with engine.connect() as connection:
        options = {"include_object": include_object, "version_table": VERSION_TABLE, "compare_type": True}
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), Base.metadata))


# On SQLite the ledger's indexes by expressions can't be read back; they are not ours to compare.
@pytest.mark.filterwarnings("ignore:Skipped unsupported reflection:sqlalchemy.exc.SAWarning")
@BOTH
@pytest.mark.parametrize("ledger_first", [True, False])
def test_the_tables_are_as_the_models_have_them(engine: Engine, ledger_first: bool) -> None:
    if ledger_first:
        migrate(engine)
    for _ in range(2):
        create_tables(engine)
    if not ledger_first:
        migrate(engine)
    assert differences(engine) == []


@BOTH
def test_the_first_releases_rows_are_kept_and_a_texter_has_one_assignment(engine: Engine) -> None:
    create_tables(engine, FIRST)
    with engine.begin() as connection:
        connection.execute(sa.text(f"DROP TABLE {VERSION_TABLE}"))  # that release kept none
        old = sa.MetaData()
        old.reflect(connection)
        old.tables["contact"].c.import_uid.type = sa.Uuid()  # SQLite has none, and tells so

        def add(table: str, **values: Any) -> None:
            connection.execute(old.tables[table].insert().values(created_at=WHEN, **values))

        add("organization", id=1, name="Neighbours")
        for key in (1, 2):
            add("campaign", id=key, organization_id=1, title="Sunday", script="Hi", country="US")
        for key, texter in ((1, "Tess"), (2, "Bo"), (3, "Tess"), (4, "Tess")):
            add("assignment", id=key, campaign_id=1, texter=texter)
        for key, holder in ((1, 1), (2, 2), (3, 3), (4, 4), (5, None)):
            about = dict.fromkeys(("first_name", "last_name", "zip", "external_id"), "")
            more = {"cell": f"+1212555000{key}", "custom_fields": {}, "import_uid": uuid4()}
            add("contact", id=key, campaign_id=1, assignment_id=holder, **about, **more)

    for _ in range(2):
        create_tables(engine)

    assert differences(engine) == []
    with Session(engine) as session:
        campaigns = session.scalars(sa.select(Campaign).order_by(Campaign.id)).all()
        assert [(each.assigning, each.started_at) for each in campaigns] == [
            (Assigning.OPEN, WHEN),
            (Assigning.OPEN, None),
        ]
        assignments = session.scalars(sa.select(Assignment).order_by(Assignment.id)).all()
        assert [(each.texter, each.max_contacts) for each in assignments] == [("Tess", None), ("Bo", None)]
        held = sa.select(Contact.id, Assignment.texter).outerjoin(Assignment, Assignment.id == Contact.assignment_id)
        assert dict(session.execute(held).all()) == {1: "Tess", 2: "Bo", 3: "Tess", 4: "Tess", 5: None}
