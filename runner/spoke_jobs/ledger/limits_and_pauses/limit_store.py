"""Read and change a ledger's limits. What each change means is in :mod:`spoke_jobs.limits.job_limit`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from spoke_jobs.contract.limit_scopes import Scope, Subject
from spoke_jobs.errors import InvalidLimit
from spoke_jobs.ledger.audit.audit_events import Action
from spoke_jobs.limits import job_limit
from spoke_jobs.limits.admission import LimitSet
from spoke_jobs.limits.job_limit import Bounds, JobLimit, LimitPause, empty
from spoke_jobs.limits.limit_file import Applied, LimitEntry, with_code_default
from spoke_jobs.model import JobRequest

Change = Callable[[JobLimit, datetime], JobLimit]
"""Makes the new limit from the present one (or an empty one) and the time."""


class LimitStore(ABC):
    """The limits of a ledger. Each change is one transaction, which also writes a job event. Workers obey it at once.

    :param by: who makes the change.
    """

    limited = False
    """Whether the last claim found limits."""
    rated = False
    """Whether one of them is a rate."""
    next_token_seconds: float | None = None
    """In how many seconds after the last claim a rate lets another attempt start; None if no rate holds one back."""

    version = 0
    """Counts the changes of limits that claims have found."""
    _noted: LimitSet | None = None

    def note(self, limits: LimitSet, next_token_seconds: float | None = None) -> None:
        """Record what a claim found."""
        if limits is not self._noted:
            self._noted, self.version = limits, self.version + 1
        self.limited, self.rated, self.next_token_seconds = bool(limits), bool(limits.rated), next_token_seconds

    @abstractmethod
    def all(self) -> Sequence[JobLimit]:
        """List the limits and pauses, by scope."""

    def shut(self) -> LimitSet:
        """Return the limits under which nothing starts now, however few jobs run: the pauses, and those of 0 jobs."""
        now = datetime.now(UTC)
        return LimitSet([limit for limit in self.all() if limit.paused_at(now) or limit.bounds.max_running == 0])

    def holds(self, job: JobRequest) -> bool:
        """Return whether a pause, or a limit of 0 running jobs, keeps the job from starting now."""
        return any(self.shut().of(Subject.of(job)))

    @abstractmethod
    def _change(
        self, scope: Scope, change: Change, action: Action, by: str, detail: str | None = None
    ) -> JobLimit | None:
        """Apply a change. Return the limit that is left; None if nothing is.

        :param detail: what the job event says; by default, the bounds after the change.
        """

    @abstractmethod
    def declare(self, declared: Mapping[Scope, Bounds], app: str) -> None:
        """Store an application's defaults, and remove those that it no longer declares. What people set stays.

        :param app: the application's name (SPOKE_APP).
        """

    def set(self, scope: Scope, change: Callable[[Bounds], Bounds], by: str = "") -> JobLimit | None:
        """Set the bounds of a scope, until they are reset.

        :raises InvalidLimit: if the scope can't have them.
        """

        def changed(limit: JobLimit, _now: datetime) -> JobLimit:
            return job_limit.with_bounds(limit, change(limit.bounds))

        return self._change(scope, changed, Action.SET_LIMIT, by)

    def reset(self, scope: Scope, by: str = "") -> JobLimit | None:
        """Return to what the application's code declares. A pause stays."""
        return self._change(scope, lambda limit, _now: job_limit.after_reset(limit), Action.RESET_LIMIT, by)

    def pause(self, scope: Scope, reason: str, by: str = "", until: datetime | None = None) -> JobLimit:
        """Let no attempt of the scope start. Running attempts continue.

        :param until: when the pause ends by itself.
        :raises InvalidLimit: without a reason, or if ``until`` is over or has no time zone.
        """
        reason = job_limit.check_text("reason", reason)

        def paused(limit: JobLimit, now: datetime) -> JobLimit:
            if until is not None and until <= now:
                raise InvalidLimit(f"until is {until.isoformat()}, which is over: give a later time")
            return replace(limit, pause=LimitPause(reason, by, now, until))

        if until is not None and until.utcoffset() is None:
            raise InvalidLimit(f"until is {until.isoformat()}, without a time zone")
        end = f" until {until.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if until is not None else ""
        limit = self._change(scope, paused, Action.PAUSE, by, f"{reason}{end}")
        assert limit is not None
        return limit

    @abstractmethod
    def apply(self, entries: Sequence[LimitEntry], by: str = "", *, prune: bool = False) -> list[Applied]:
        """Store what a file says (:mod:`spoke_jobs.limits.limit_file`). Return the limits that this has changed.

        :param prune: also remove what an earlier file declared and these entries do not.
        """

    def resume(self, scope: Scope, by: str = "") -> bool:
        """End the pause of a scope. Return False if it is not paused."""
        if not any(limit.scope == scope and limit.pause is not None for limit in self.all()):
            return False
        self._change(scope, lambda limit, _now: replace(limit, pause=None), Action.RESUME, by, "")
        return True


def declarations(
    present: Sequence[JobLimit], declared: Mapping[Scope, Bounds], app: str
) -> list[tuple[JobLimit, JobLimit]]:
    """Return the limits that an application's declarations change, each before and after."""
    found = {limit.scope: limit for limit in present}
    changes = []
    for scope in {**dict.fromkeys(found), **declared}:
        before = found.get(scope, empty(scope))
        declares = before.replaced.app if before.replaced is not None else before.declared_by
        if scope not in declared and declares != app:
            continue
        after = with_code_default(before, declared.get(scope), app)
        if after != before:
            changes.append((before, after))
    return changes
