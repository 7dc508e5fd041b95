"""Make plain sessions for jobs from what a test provides for ``ctx.session``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakSet

from sqlalchemy.orm import Session

from spoke_jobs.errors import ConfigurationError
from spoke_jobs.shared.validation_text import an

Sessions = Callable[[], Any]
"""Returns a new ``Session`` or ``AsyncSession`` at each call."""


def plain_sessions(sessions: Sessions | None) -> Callable[[], Session]:
    """Return a factory of plain sessions. It raises ConfigurationError if ``sessions`` cannot be used."""
    given: WeakSet[Session] = WeakSet()

    def make() -> Session:
        if sessions is None:
            raise ConfigurationError(
                "this job uses ctx.session, and the test provides none: override the fixture spoke_jobs_sessions, "
                "which returns a sessionmaker on the test's engine or connection"
            )
        made = sessions()
        session = getattr(made, "sync_session", made)
        if not isinstance(session, Session):
            raise ConfigurationError(f"spoke_jobs_sessions made {an(type(made).__name__)}, where a Session is expected")
        if session in given or session.in_transaction():
            # A job closes its session and guards its commits. Neither may happen to the test's own session.
            raise ConfigurationError(
                "spoke_jobs_sessions gave a session that is in use: it must make a new one for each job, "
                "as a sessionmaker does"
            )
        given.add(session)
        return session

    return make
