"""What pages say about errors of the database that people can do something about."""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError

from spoke_jobs.ledger.engine import is_away, is_locked, is_not_allowed, is_timed_out
from spoke_jobs.web.answers import NARROWER, Page, refusal


def database_problem(
    error: DBAPIError, statement_seconds: float, *, too_slow: str = NARROWER, changes: bool = False
) -> Page | None:
    """Return what to say about an error of the database; None if it is unexpected.

    :param statement_seconds: how long a statement may take.
    :param too_slow: what to do if a page takes longer.
    :param changes: whether an action has ended with it. One that took too long has changed nothing.
    """
    if is_timed_out(error) and changes:
        return refusal(
            "This takes too long",
            f"The database did not answer within {statement_seconds:g} s, perhaps because another transaction has "
            "locked what this changes. Nothing was changed. Try again.",
            503,
        )
    if is_timed_out(error):
        return refusal(
            "This takes too long",
            f"The database did not answer within {statement_seconds:g} s, so the query was ended. {too_slow}",
            503,
        )
    if is_locked(error):
        return refusal("Locked", "Another transaction has locked what this changes. Try again when it has ended.", 503)
    if is_not_allowed(error):
        return refusal("Not allowed", "The dashboard's database role may not do this: docs/deploying.md says why.", 503)
    if is_away(error):
        return refusal("The database is away", "It can't be reached now. Try again in a moment.", 503)
    return None
