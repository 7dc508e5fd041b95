"""The pytest plugin: ``def test_upload(client, spoke_jobs)``. pytest finds it by its entry point, without an import.

pytest loads this module at the start of every run. So it imports the rest of the library only when a test uses a
fixture.

=========================  =============================================================================================
``spoke_jobs``             records the jobs and tasks that the test dispatches; ``drain()`` runs them
                           (:class:`spoke_jobs.testing.dispatched.SpokeJobs`)
``spoke_jobs_sessions``    override it if jobs use ``ctx.session``: returns a factory of sessions
``spoke_jobs_registry``    override it if the application has a registry of its own
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
    """Override this fixture if jobs use ``ctx.session``: return a factory of sessions, as ``sessionmaker(engine)``.

    For a test whose connection has an outer transaction that is rolled back at the end::

        @pytest.fixture
        def spoke_jobs_sessions(connection):
            return sessionmaker(bind=connection, join_transaction_mode="create_savepoint")

    The factory may be an ``async_sessionmaker`` on an ``AsyncConnection``. Then run the jobs with ``await adrain()``.
    """
    return None


@pytest.fixture
def spoke_jobs_registry() -> Registry:
    """Override this fixture if the application has a registry of its own. It returns the process's default registry."""
    from spoke_jobs import registry

    return registry.default


@pytest.fixture
def spoke_jobs(spoke_jobs_registry: Registry, spoke_jobs_sessions: Sessions | None) -> Iterator[SpokeJobs]:
    """Record what the test dispatches; ``drain()`` runs it. Afterwards the process has its former runner again.

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
