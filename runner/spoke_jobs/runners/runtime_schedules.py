"""Change schedules at run time, in the caller's transaction or in one of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine

from spoke_jobs.ledger.after_commit import connection_of, plain_session
from spoke_jobs.ledger.schedules import schedule_rows
from spoke_jobs.registry import Registry
from spoke_jobs.schedules.timing import Cron, Every
from spoke_jobs.type_names import TypeName

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


class RuntimeSchedules:
    """The schedules of a runner, for :func:`spoke_jobs.put_schedule` and the like."""

    def __init__(self, engine: Callable[[], Engine], registry: Registry, runner: str) -> None:
        self._engine = engine
        self._registry = registry
        self._runner = runner

    def put(
        self,
        name: str,
        job: TypeName,
        timing: Cron | Every,
        payload: Any,
        options: Mapping[str, Any],
        *,
        replace: bool,
        by: str,
        session: Session | None,
    ) -> None:
        """Write a schedule."""
        made = self._registry.make_schedule(name, job, timing, payload, options)
        declared = self._registry.declares_schedule(name)
        with self._transaction(session) as connection:
            schedule_rows.put(connection, self._runner, made, by, replace=replace, declared=declared)

    def remove(self, name: str, by: str, session: Session | None) -> bool:
        """Delete a schedule. Return False if there is none."""
        with self._transaction(session) as connection:
            return schedule_rows.remove(connection, name, by)

    def pause(self, name: str, by: str, session: Session | None) -> bool:
        """Pause a schedule. Return False if there is none."""
        with self._transaction(session) as connection:
            return schedule_rows.pause(connection, name, by) is not None

    def resume(self, name: str, by: str, session: Session | None) -> bool:
        """Resume a schedule. Return False if there is none."""
        with self._transaction(session) as connection:
            return schedule_rows.resume(connection, name, by) is not None

    @contextmanager
    def _transaction(self, session: Session | None) -> Iterator[Connection]:
        if session is not None:
            yield connection_of(plain_session(session))
            return
        with self._engine().begin() as connection:
            yield connection
