"""Where the PostgreSQL of tests and benchmarks is."""

from __future__ import annotations

from collections.abc import Mapping


def server_url(environment: Mapping[str, str]) -> str:
    """The server that SPOKE_TEST_POSTGRES names, or the one that `scripts/postgres` starts at SPOKE_POSTGRES_PORT."""
    port = environment.get("SPOKE_POSTGRES_PORT") or "54329"
    return environment.get("SPOKE_TEST_POSTGRES") or f"postgresql+psycopg://spoke:spoke@127.0.0.1:{port}/spoke"
