"""A connection that is found open is traced to the test that opened it."""

from __future__ import annotations

import pytest
from sqlalchemy import create_engine
from tests.open_connections import openers


def test_the_opener_is_found_by_the_address_in_the_warning(request: pytest.FixtureRequest) -> None:
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        driver = connection.connection.driver_connection
        warning = f"ResourceWarning: unclosed database in {object.__repr__(driver)}"
        assert openers(warning) == [f"{request.node.nodeid} (call)"]
    engine.dispose()
    assert openers("<psycopg.Connection object at 0x1> was deleted while still open") == []
