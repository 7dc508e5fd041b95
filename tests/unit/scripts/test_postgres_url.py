"""Tests use the PostgreSQL that `scripts/postgres` starts, also at another port: its message advises one."""

from __future__ import annotations

import pytest
from tests.postgres import server_url

OTHER = "postgresql+psycopg://me@elsewhere/tests"


@pytest.mark.parametrize(
    ("environment", "url"),
    [
        ({}, "postgresql+psycopg://spoke:spoke@127.0.0.1:54329/spoke"),
        ({"SPOKE_POSTGRES_PORT": "50001"}, "postgresql+psycopg://spoke:spoke@127.0.0.1:50001/spoke"),
        ({"SPOKE_POSTGRES_PORT": "50001", "SPOKE_TEST_POSTGRES": OTHER}, OTHER),
    ],
)
def test_the_server(environment: dict[str, str], url: str) -> None:
    assert server_url(environment) == url
