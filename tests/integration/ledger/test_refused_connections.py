"""A server that refuses a connection is told apart from one that does not answer."""

from __future__ import annotations

import pytest
from sqlalchemy.engine import make_url

from spoke_jobs.errors import DatabaseRefused
from spoke_jobs.ledger.engine import check_schema, create_engine


@pytest.mark.parametrize("change", [{"username": "nobody_here", "password": "hunter2"}, {"database": "no_such_one"}])
def test_a_refusal_of_the_server_is_recognized(postgres_url: str, change: dict[str, str]) -> None:
    engine = create_engine(make_url(postgres_url).set(**change))  # type: ignore[arg-type]
    with pytest.raises(DatabaseRefused, match="refuses the connection") as caught:
        check_schema(engine)
    engine.dispose()
    assert "hunter2" not in str(caught.value)
