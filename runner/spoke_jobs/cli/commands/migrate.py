"""`migrate`: create or upgrade the ledger's tables."""

from __future__ import annotations

from spoke_jobs.cli.commands.exits import reports_errors
from spoke_jobs.ledger.engine import create_engine, shown
from spoke_jobs.settings import load_settings


@reports_errors
def migrate() -> None:
    """Create or upgrade the ledger's tables in SPOKE_DATABASE_URL."""
    from spoke_jobs.contract.log_setup import configure_logging
    from spoke_jobs.ledger.migrations import migrate as run_migrations

    configure_logging()
    engine = create_engine(load_settings().database_url.get_secret_value())
    run_migrations(engine)
    print(f"the ledger in {shown(engine.url)} is up to date")
