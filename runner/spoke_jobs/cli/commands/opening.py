"""What commands stand on: the ledger, and the application."""

from __future__ import annotations

import traceback

from sqlalchemy import Engine

from spoke_jobs.errors import ConfigurationError, SpokeJobsError
from spoke_jobs.ledger.engine import check_schema, create_engine
from spoke_jobs.ledger.queries import Queries
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.registry import Registry, load_app
from spoke_jobs.settings import Settings, load_settings

_engines: list[Engine] = []


def open_ledger(settings: Settings | None = None) -> SqlLedger:
    """The ledger that the settings name.

    :raises SpokeJobsError: if it can't be used, naming what is missing.
    """
    engine = create_engine((settings or load_settings()).database_url.get_secret_value())
    _engines.append(engine)
    check_schema(engine)
    return SqlLedger(engine)


def close() -> None:
    """Close what was opened, at a command's end: a server is told, rather than left to find out."""
    while _engines:
        _engines.pop().dispose()


def look() -> tuple[SqlLedger, Queries]:
    """The ledger, and what a person asks of it."""
    ledger = open_ledger()
    return ledger, Queries(ledger.engine)


def open_app(settings: Settings) -> Registry:
    """The application's jobs and tasks.

    :raises ConfigurationError: also for what the application's own modules raise, with the place.
    """
    try:
        return load_app(settings.app)
    except SpokeJobsError:
        raise
    except (Exception, SystemExit) as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        said = " ".join(str(error).split())[:500]
        raise ConfigurationError(
            f"SPOKE_APP={settings.app} can't be imported: {type(error).__name__}: {said} "
            f"({place.filename}, line {place.lineno})"
        ) from error
