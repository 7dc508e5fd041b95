"""The schedules that an application's code declares: a part of its registry."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from spoke_jobs.errors import InvalidSchedule, RegistrationError, UnknownName
from spoke_jobs.schedules.schedule import JobDeclaration, Schedule, new_schedule
from spoke_jobs.schedules.timing import Cron, Every
from spoke_jobs.type_names import TypeName, plain_name


class ScheduleDeclarations:
    """Declared schedules, which are checked once all jobs are declared."""

    def __init__(self, job_of: Callable[[TypeName], JobDeclaration]) -> None:
        self._job_of = job_of
        self._schedules: dict[str, tuple[TypeName, Cron | Every, Any, Mapping[str, Any]]] = {}

    def schedule(self, name: str, job: TypeName, timing: Cron | Every, *, payload: Any = None, **options: Any) -> None:
        """Declare a schedule: dispatch ``job`` whenever an occurrence of ``timing`` is due.

        The processes that load the application write it to the ledger, and dispatch. The job may be declared later.

        :param name: identifies the schedule in the ledger and in commands.
        :param payload: as a dispatch takes it. If it is left out, a payload model gets its defaults.
        :param options: options of a dispatch, except ``run_after``: docs/reference/options.md.
        :raises RegistrationError: if the name is taken.
        """
        if name in self._schedules:
            raise RegistrationError(f"the schedule {name!r} is declared twice; rename one of them")
        self._schedules[name] = job, timing, payload, options

    def schedules(self) -> list[Schedule]:
        """Return the declared schedules.

        :raises RegistrationError: as :meth:`make_schedule`.
        """
        return [self.make_schedule(name, *parts) for name, parts in self._schedules.items()]

    def declares_schedule(self, name: str) -> bool:
        """Whether code declares a schedule of that name, stored or not."""
        return name in self._schedules

    def make_schedule(
        self, name: str, job: TypeName, timing: Cron | Every, payload: Any, options: Mapping[str, Any]
    ) -> Schedule:
        """Check a schedule's parts with the declaration of its job.

        :raises RegistrationError: if one of them can't be used.
        """
        try:
            return new_schedule(name, plain_name(job), timing, payload, options, self._job_of(job))
        except (UnknownName, InvalidSchedule) as error:
            raise RegistrationError(f"the schedule {name!r}: {error}") from None
