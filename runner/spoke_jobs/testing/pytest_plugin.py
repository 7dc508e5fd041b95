"""The pytest plugin: ``def test_upload(client, spoke_jobs)``. Found by its entry point; it needs no import.

Nothing of the library is imported before a test asks for a fixture: pytest loads this module at the start of every run.

=========================  =============================================================================================
``spoke_jobs``             jobs and tasks that the test dispatches are recorded, and run when the test says so
                           (:class:`spoke_jobs.testing.dispatched.SpokeJobs`)
``spoke_jobs_sessions``    to override: makes the sessions that jobs get as ``ctx.session``; on the test's connection,
                           where the test rolls its own transaction back
``spoke_jobs_registry``    to override, where the application has a registry of its own
=========================  =============================================================================================
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from spoke_jobs.registry import Registry
    from spoke_jobs.testing.dispatched import SpokeJobs
    from spoke_jobs.testing.sessions import Sessions


@pytest.fixture
def spoke_jobs_sessions() -> Sessions | None:
    """Override it where jobs use ``ctx.session``: return what makes a session, ``sessionmaker(engine)`` for example.

    In a test whose connection has an outer transaction, which is rolled back at the end::

        @pytest.fixture
        def spoke_jobs_sessions(connection):
            return sessionmaker(bind=connection, join_transaction_mode="create_savepoint")

    An ``async_sessionmaker`` on an ``AsyncConnection`` will do as well; jobs are then run by ``await adrain()``.
    """
    return None


@pytest.fixture
def spoke_jobs_registry() -> Registry:
    """Override it where jobs are declared in a registry of the application's own; by default, the process's."""
    from spoke_jobs import registry

    return registry.default


@pytest.fixture
def spoke_jobs(spoke_jobs_registry: Registry, spoke_jobs_sessions: Sessions | None) -> Iterator[SpokeJobs]:
    """What the test dispatches: recorded, and run by ``drain()``. Afterwards the process has its earlier runner again.

    ::

        def test_an_upload_is_imported(client, spoke_jobs):
            client.post("/uploads", ...)
            assert spoke_jobs.job("import_contacts").payload == ImportContacts(upload_id=1)
            spoke_jobs.drain()
            assert spoke_jobs.job("import_contacts").result == {"loaded": 3}
    """
    from spoke_jobs.dispatch import use_runner
    from spoke_jobs.testing.dispatched import SpokeJobs

    test = SpokeJobs(spoke_jobs_registry, spoke_jobs_sessions)
    with use_runner(test.runner):
        yield test
