"""The table ``job_limit``: read its rows, and change them.

Claims read the limits while they hold a lock on the table, in ROW SHARE mode
(:mod:`spoke_jobs.ledger.claims.limited_claims`, :mod:`spoke_jobs.ledger.claims.bulk`). A change takes the lock in
EXCLUSIVE mode, which waits for the claims in progress. No claim that began before the change commits after it, so
nothing starts after the commit of a pause. Readers, a dump for example, hinder nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Engine, and_, delete, insert, or_, select, text, update

from spoke_jobs.contract.executors import Executor, executor_of
from spoke_jobs.contract.limit_scopes import Scope, Subject
from spoke_jobs.errors import InvalidLimit
from spoke_jobs.ledger.audit import audit_events
from spoke_jobs.ledger.audit.audit_events import Action
from spoke_jobs.ledger.columns.clock import clock_now, read_clock
from spoke_jobs.ledger.engine import READ_ONLY
from spoke_jobs.ledger.limits_and_pauses import bucket_rows
from spoke_jobs.ledger.notify import CHANNEL, LIMITS
from spoke_jobs.ledger.tables import job_limit, sql_name
from spoke_jobs.limits.admission import LimitSet
from spoke_jobs.limits.job_limit import (
    NO_BOUNDS,
    Bounds,
    Declared,
    JobLimit,
    LimitPause,
    Rate,
    Source,
    after_reset,
    check_text,
    empty,
    with_bounds,
)
from spoke_jobs.limits.limit_file import APPLIED, Applied, LimitEntry, applied, with_code_default
from spoke_jobs.limits.operator_limits import check_obeyed, ledger_digest
from spoke_jobs.model import JobRequest

_SEQUENCE = sql_name("job_limit_id_seq")
LAST_CHANGE = f"coalesce(pg_sequence_last_value(cast('{_SEQUENCE}' AS regclass)), 0)"
"""The number of the last change (PostgreSQL): the last number of the sequence that also numbers the rows."""
_PLACE = """
    SELECT current_database() AS database, pg_namespace.nspname AS schema,
        has_function_privilege('pg_control_system()', 'EXECUTE') AS may_ask
    FROM pg_class JOIN pg_namespace ON pg_namespace.oid = pg_class.relnamespace
    WHERE pg_class.oid = cast(:name AS regclass)
"""
_SERVER = "SELECT system_identifier FROM pg_control_system()"
_REPLACED = "replaced"
"""The key in a row's `declared` of what the code declares, while a file replaces it."""
_WAIT_FOR_CLAIMS = "5s"
"""How long a change waits for the claims in progress. Meanwhile no other claim begins."""

_SHUT = select(job_limit).where(
    or_(
        job_limit.c.max_running == 0,
        and_(
            job_limit.c.paused_at.is_not(None),
            or_(job_limit.c.paused_until.is_(None), job_limit.c.paused_until > clock_now()),
        ),
    )
)

Change = Callable[[JobLimit, datetime], JobLimit]
"""Makes the new limit from the present one (or an empty one) and the time."""


def read_limits(connection: Connection) -> list[JobLimit]:
    """Read the limits, by scope. Leave out rows that this release can't read."""
    rows = connection.execute(select(job_limit).order_by(job_limit.c.scope)).mappings()
    return [limit for row in rows if (limit := to_limit(row)) is not None]


def ledger_identity(connection: Connection) -> str:
    """Return the identity of the ledger: the same for all its processes, and another one for each other ledger.

    It follows from the database server's identity, which replicas and restores of the whole server share, and from the
    names of the database and the schema. Empty on SQLite.
    """
    if connection.dialect.name != "postgresql":
        return ""
    place = connection.execute(text(_PLACE), {"name": sql_name("job_limit")}).one()
    # By default each role may call it. A server that forbids it is told apart by the names alone.
    server = str(connection.scalar(text(_SERVER))) if place.may_ask else ""
    return ledger_digest(server, place.database, place.schema)


class SqlLimits:
    """The limits of a ledger. Each change is one transaction, which also writes a job event. Workers obey it at once.

    What each change means is in :mod:`spoke_jobs.limits.job_limit`.

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

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def note(self, limits: LimitSet, next_token_seconds: float | None = None) -> None:
        """Record what a claim found."""
        if limits is not self._noted:
            self._noted, self.version = limits, self.version + 1
        self.limited, self.rated, self.next_token_seconds = bool(limits), bool(limits.rated), next_token_seconds

    def all(self) -> Sequence[JobLimit]:
        """List the limits and pauses, by scope."""
        with self._engine.connect().execution_options(**{READ_ONLY: True}) as connection:
            return read_limits(connection)

    def shut(self) -> LimitSet:
        """Return the limits under which nothing starts now, however few jobs run: the pauses, and those of 0 jobs."""
        with self._engine.connect().execution_options(**{READ_ONLY: True}) as connection:
            rows = connection.execute(_SHUT).mappings()
            return LimitSet([limit for row in rows if (limit := to_limit(row)) is not None])

    def holds(self, job: JobRequest) -> bool:
        """Return whether a pause, or a limit of 0 running jobs, keeps the job from starting now."""
        return any(self.shut().of(Subject.of(job)))

    def declare(self, declared: Mapping[Scope, Bounds], app: str) -> None:
        """Store an application's defaults, and remove those that it no longer declares. What people set stays.

        :param app: the application's name (SPOKE_APP).
        """
        if not declarations(self.all(), declared, app):
            return  # most starts: no lock is needed
        with self._engine.begin() as connection:
            _lock(connection)
            for before, after in declarations(read_limits(connection), declared, app):
                _write(connection, before, after)
                for action, said in _declared_events(before, after):
                    audit_events.record(connection, action, app, detail=f"{after.scope}{said}")
            _number(connection)

    def apply(self, entries: Sequence[LimitEntry], by: str = "", *, prune: bool = False) -> list[Applied]:
        """Store what a file says (:mod:`spoke_jobs.limits.limit_file`). Return the limits that this has changed.

        :param prune: also remove what an earlier file declared and these entries do not.
        """
        with self._engine.begin() as connection:
            _lock(connection)
            now = read_clock(connection)
            changes = applied(read_limits(connection), entries, now, by=by, prune=prune)
            changed = {change.after.scope for change in changes}
            for entry in entries:
                if entry.scope in changed:
                    self._check(entry)
            for before, after in ((change.before, change.after) for change in changes):
                _write(connection, before, after)
                for action, said in _events(before, after):
                    audit_events.record(connection, action, by, detail=f"{after.scope}{said}")
            if changes:
                _number(connection)
            return changes

    def set(self, scope: Scope, change: Callable[[Bounds], Bounds], by: str = "") -> JobLimit | None:
        """Set the bounds of a scope, until they are reset.

        :raises InvalidLimit: if the scope can't have them.
        """

        def changed(limit: JobLimit, _now: datetime) -> JobLimit:
            return with_bounds(limit, change(limit.bounds))

        return self._change(scope, changed, Action.SET_LIMIT, by)

    def reset(self, scope: Scope, by: str = "") -> JobLimit | None:
        """Return to what the application's code declares. A pause stays."""
        return self._change(scope, lambda limit, _now: after_reset(limit), Action.RESET_LIMIT, by)

    def pause(self, scope: Scope, reason: str, by: str = "", until: datetime | None = None) -> JobLimit:
        """Let no attempt of the scope start. Running attempts continue.

        :param until: when the pause ends by itself.
        :raises InvalidLimit: without a reason, or if ``until`` is over or has no time zone.
        """
        reason = check_text("reason", reason)

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

    def resume(self, scope: Scope, by: str = "") -> bool:
        """End the pause of a scope. Return False if it is not paused."""
        if not any(limit.scope == scope and limit.pause is not None for limit in self.all()):
            return False
        self._change(scope, lambda limit, _now: replace(limit, pause=None), Action.RESUME, by, "")
        return True

    def _check(self, entry: LimitEntry) -> None:
        """Raise InvalidLimit for an entry that nothing would obey."""

    def _change(
        self, scope: Scope, change: Change, action: Action, by: str, detail: str | None = None
    ) -> JobLimit | None:
        """Apply a change. Return the limit that is left; None if nothing is.

        :param detail: what the job event says; by default, the bounds after the change.
        """
        with self._engine.begin() as connection:
            _lock(connection)
            now = read_clock(connection)
            found = connection.execute(select(job_limit).where(job_limit.c.scope == str(scope))).mappings().first()
            before = (to_limit(found) if found is not None else None) or empty(scope)
            after = change(before, now)
            _write(connection, before, after)
            _number(connection)
            said = str(after.bounds) if detail is None else detail
            audit_events.record(connection, action, by, detail=f"{scope}: {said}" if said else str(scope))
            return after if after.needed else None


class OperatorLimits(SqlLimits):
    """The limits of a ledger whose jobs the operator starts.

    A limit or a pause of a scope that no SpokeLimit can have is refused, and can be removed.
    """

    def _check(self, entry: LimitEntry) -> None:
        if entry.bounds is not None or entry.pause:
            check_obeyed(entry.scope)

    def _change(
        self, scope: Scope, change: Change, action: Action, by: str, detail: str | None = None
    ) -> JobLimit | None:
        if action in (Action.SET_LIMIT, Action.PAUSE):
            check_obeyed(scope)
        return super()._change(scope, change, action, by, detail)


def limits_of(engine: Engine, runner: str) -> SqlLimits:
    """Return the limits of a ledger whose jobs the runner starts."""
    return OperatorLimits(engine) if executor_of(runner) is Executor.CLUSTER else SqlLimits(engine)


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


def _events(before: JobLimit, after: JobLimit) -> Iterator[tuple[Action, str]]:
    """Yield what the job events of an applied file say."""
    if after.default != before.default:
        if after.default is None:
            yield Action.RESET_LIMIT, ""
        elif after.declared_by != APPLIED:
            yield Action.RESET_LIMIT, f": {after.default}"
        else:
            yield Action.SET_LIMIT, f": {after.default} (applied)"
    if after.pause is not None and after.pause != before.pause:
        yield Action.PAUSE, f": {after.pause.reason}"
    elif after.pause is None and before.pause is not None:
        yield Action.RESUME, ""


def _declared_events(before: JobLimit, after: JobLimit) -> Iterator[tuple[Action, str]]:
    """Yield what the job event of a change in the application's code says."""
    old, new = _in_code(before), _in_code(after)
    if old == new:
        return
    stays = f", {after.bounds} stays in effect" if after.bounds != (new or NO_BOUNDS) else ""
    if new is None:
        yield Action.RESET_LIMIT, f": no longer declared{stays}"
    else:
        yield Action.SET_LIMIT, f": {new} (declared{stays})"


def _in_code(limit: JobLimit) -> Bounds | None:
    if limit.declared_by == APPLIED:
        return None if limit.replaced is None else limit.replaced.bounds
    return limit.default


def _lock(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SET LOCAL lock_timeout = '{_WAIT_FOR_CLAIMS}'"))
        connection.execute(text(f"LOCK TABLE {sql_name('job_limit')} IN EXCLUSIVE MODE"))


def _number(connection: Connection) -> None:
    """Give the change a number, so that claims read the limits again, and notify workers at the commit."""
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SELECT nextval('{_SEQUENCE}'), pg_notify('{CHANNEL}', '{LIMITS}')"))


def _write(connection: Connection, before: JobLimit, after: JobLimit) -> None:
    here = job_limit.c.scope == str(after.scope)
    if before.has_buckets != after.has_buckets and before.id:
        bucket_rows.forget(connection, before)
    if not after.needed:
        connection.execute(delete(job_limit).where(here))
    elif before.id:
        connection.execute(update(job_limit).where(here).values(_to_row(after)))
    else:
        connection.execute(insert(job_limit).values(_to_row(after)))


def _to_row(limit: JobLimit) -> dict[str, Any]:
    rate, pause = limit.bounds.rate, limit.pause
    return {
        "scope": str(limit.scope),
        "max_running": limit.bounds.max_running,
        "rate_count": rate and rate.count,
        "rate_seconds": rate and rate.seconds,
        "burst": rate.burst if rate else 1,
        "full_at": limit.full_at,
        "paused_at": pause and pause.since,
        "paused_until": pause and pause.until,
        "paused_by": pause.by if pause else "",
        "paused_reason": pause.reason if pause else "",
        "source": limit.source.value,
        "declared": _declared(limit),
        "declared_by": limit.declared_by,
        "updated_at": clock_now(),
    }


def _declared(limit: JobLimit) -> dict[str, Any] | None:
    if limit.default is None:
        return None
    replaced = {} if limit.replaced is None else {_REPLACED: limit.replaced.to_json()}
    return limit.default.to_json() | replaced


def to_limit(row: Mapping[Any, Any]) -> JobLimit | None:
    """Read a row; None if this release can't read its scope or its bounds."""
    scope = Scope.parse(row["scope"])
    if scope is None:  # of another release
        return None
    with suppress(InvalidLimit, ValueError):
        rate = None if row["rate_count"] is None else Rate(row["rate_count"], row["rate_seconds"], row["burst"])
        default, replaced = _read_declared(row["declared"])
        return JobLimit(
            scope,
            Bounds(row["max_running"], rate),
            _pause(row),
            Source(row["source"]),
            default,
            row["declared_by"],
            replaced,
            row["full_at"],
            row["id"],
        )
    return None


def _read_declared(value: Any) -> tuple[Bounds | None, Declared | None]:
    """Read what :func:`_declared` made; nothing of what another release wrote. The bounds in effect do not need it."""
    if value is None:
        return None, None
    with suppress(AttributeError, InvalidLimit, KeyError, TypeError, ValueError):
        replaced = value.get(_REPLACED)
        return Bounds.from_json(value), None if replaced is None else Declared.from_json(replaced)
    return None, None


def _pause(row: Mapping[Any, Any]) -> LimitPause | None:
    since: datetime | None = row["paused_at"]
    return None if since is None else LimitPause(row["paused_reason"], row["paused_by"], since, row["paused_until"])
