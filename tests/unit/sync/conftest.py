from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, event

from spoke_jobs.ledger.engine import create_engine


@pytest.fixture
def engine(sqlite_ledger_url: str) -> Iterator[Engine]:
    """A ledger on SQLite, with the function of PostgreSQL that sync's queries use."""
    engine = create_engine(sqlite_ledger_url)
    event.listen(engine, "connect", lambda raw, _: raw.create_function("greatest", -1, max))
    yield engine
    engine.dispose()
