"""The engines and the ledgers that a command has opened. Its end closes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from spoke_jobs.ledger.sql_ledger import SqlLedger

engines: list[Engine] = []
ledgers: list[SqlLedger] = []


def close_engines() -> None:
    """Close the connections of this command. Otherwise the server logs broken connections."""
    while ledgers:
        ledgers.pop().close_notifier()
    while engines:
        engines.pop().dispose()
