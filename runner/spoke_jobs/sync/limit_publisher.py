"""Publish the ledger's limits and pauses as SpokeLimits, which the operator obeys.

Level-triggered: each turn compares the ledger's limits with the SpokeLimits that sync made. The ledger is the source of
truth: what somebody changes in such an object is changed back at the next listing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from spoke_jobs.cluster.cluster_client import SpokeJobClient
from spoke_jobs.contract.custom_resources.kinds import Kind
from spoke_jobs.ledger.limits_and_pauses.limit_rows import SqlLimits
from spoke_jobs.limits.job_limit import JobLimit, undeclared_types
from spoke_jobs.limits.operator_limits import not_obeyed
from spoke_jobs.limits.published_limits import (
    Change,
    Published,
    PublishedView,
    Put,
    changes,
    labels_of,
    read_published_limit,
    to_publish,
)
from spoke_jobs.registry import Registry
from spoke_jobs.shared.api_errors import AlreadyExists, ApiError, ApiUnavailable, Conflict, NotFound
from spoke_jobs.shared.backoff import Backoff
from spoke_jobs.shared.outage_log import OutageLog

logger = logging.getLogger(__name__)

LIST_SECONDS = 30.0
"""How often the SpokeLimits are listed, to find what somebody else has changed."""
MOST_AT_ONCE = 20
"""The most writes of one turn: the launch of jobs does not wait for hundreds of limits."""
_BACKOFF = Backoff(base=1.0, maximum=60.0)
_LISTING = ""
"""The key of the failures of listings."""


@dataclass(frozen=True, slots=True)
class _Failure:
    wanted: Published | None
    count: int
    until: float
    message: str


class LimitPublisher:
    """The SpokeLimits of one ledger.

    :param read: reads the ledger's limits.
    :param identify: reads the ledger's identity. SpokeLimits of another ledger are never touched.
    :param clock: the monotonic clock, in seconds.
    """

    def __init__(
        self,
        read: Callable[[], Sequence[JobLimit]],
        identify: Callable[[], str],
        api: SpokeJobClient,
        clock: Callable[[], float],
    ) -> None:
        self._read = read
        self._identify = identify
        self._ledger: str | None = None
        self._api = api
        self._clock = clock
        self._present: dict[str, PublishedView] | None = None
        """The SpokeLimits that sync made; None until they are listed."""
        self._outdated = False
        """Whether a write of this turn found that an object was replaced or deleted since the listing."""
        self._list_at = 0.0
        self._failures: dict[str, _Failure] = {}
        self._reading = OutageLog(
            logger, "the table of limits", began="could not read the ledger's limits", clock=clock
        )
        self._deciding = OutageLog(
            logger, "the publication of limits", began="could not decide which limits to publish", clock=clock
        )
        self._reported: frozenset[str] = frozenset()

    def publish(self) -> int:
        """Make the SpokeLimits agree with the ledger; return the number of writes.

        A failure is logged once and retried later. It does not affect the other routines.
        """
        try:
            limits = self._read()
            if self._ledger is None:
                self._ledger = self._identify()
        except SQLAlchemyError as error:
            self._reading.failed(type(error).__name__)
            return 0
        self._reading.recovered()
        try:
            written = self._apply(limits, self._ledger)
        except Exception as error:  # what is published stays, since a limit that is left out would lose its SpokeLimit
            if not self._deciding.lasts:
                logger.exception("unexpected error; the published limits stay as they are")
            self._deciding.failed(type(error).__name__)
            return 0
        self._deciding.recovered()
        return written

    def _apply(self, limits: Sequence[JobLimit], ledger: str) -> int:
        """Decide what is to be written, and write it; return the number of writes."""
        self._report(limits)
        wanted = to_publish(limits, ledger)
        if self._clock() >= self._list_at:
            self._list(wanted, ledger)
        self._forget_failures(wanted)
        self._outdated = False
        written = self._write_due(wanted, ledger, MOST_AT_ONCE)
        if self._outdated and self._list(wanted, ledger):  # at once, so that a pause is not late
            written += self._write_due(wanted, ledger, MOST_AT_ONCE - written)
        return written

    def _forget_failures(self, wanted: Mapping[str, Published]) -> None:
        """Drop the failures of limits that neither the ledger nor the cluster has."""
        known = {_LISTING, *wanted, *(self._present or ())}
        for name in self._failures.keys() - known:
            del self._failures[name]

    def _write_due(self, wanted: Mapping[str, Published], ledger: str, most: int) -> int:
        """Carry out the changes that are due; return how many were tried."""
        if self._present is None:
            return 0
        again, tried = self._outdated, 0
        for change in changes(wanted, self._present):
            if tried == most:
                break
            if self._is_due(change):
                tried += 1
                if not self._carry_out(change, self._present, ledger, again=again):
                    break
        return tried

    def _list(self, wanted: Mapping[str, Published], ledger: str) -> bool:
        """List the SpokeLimits. Return False if they can't be listed."""
        try:
            bodies = self._api.list_objects(Kind.SPOKELIMIT, labels_of(ledger))
            found = [read_published_limit(body, ledger) for body in bodies]
        except ApiError as error:
            # Without limits nobody misses the right or the definition, which an older chart lacks.
            failure = self._failed(_LISTING, None, f"SpokeLimits can't be listed: {error}", quiet=not wanted)
            self._list_at = min(failure.until, self._clock() + LIST_SECONDS)
            return False
        self._list_at = self._clock() + LIST_SECONDS
        self._failures.pop(_LISTING, None)
        self._present = {view.name: view for view in found if view is not None}
        return True

    def _is_due(self, change: Change) -> bool:
        failure = self._failures.get(change.name)
        wanted = change.spec if isinstance(change, Put) else None
        return failure is None or failure.wanted != wanted or self._clock() >= failure.until

    def _carry_out(self, change: Change, present: dict[str, PublishedView], ledger: str, *, again: bool) -> bool:
        """Write one SpokeLimit. Return False if the API server can't be used: another write would hang, too.

        :param again: whether the SpokeLimits were listed again in this turn.
        """
        try:
            self._write(change, present, ledger)
        except AlreadyExists:
            self._list_at = 0.0  # another process may have made it just before this one became the active sync
            self._failed(change.name, change, "another SpokeLimit has its name, and sync did not make it")
        except (Conflict, NotFound) as error:
            # The object was replaced or deleted since it was read. If a new one is not found, there is no definition.
            known = change.present is not None
            if known and not again:
                self._outdated = True
            else:
                self._list_at = 0.0
                self._failed(change.name, change, str(error), quiet=known)
        except ApiError as error:
            self._failed(change.name, change, str(error))
            return not isinstance(error, ApiUnavailable)
        else:
            self._failures.pop(change.name, None)
        return True

    def _write(self, change: Change, present: dict[str, PublishedView], ledger: str) -> None:
        if not isinstance(change, Put):
            self._api.delete_object(Kind.SPOKELIMIT, change.name, change.present.uid)
            del present[change.name]
            logger.info("removed the SpokeLimit %s: the ledger no longer has its limit", change.name)
            return
        name, spec, old = change
        if old is None:
            body = self._api.create_object(Kind.SPOKELIMIT, name, labels_of(ledger), spec.to_spec())
        else:
            body = self._api.patch_object(Kind.SPOKELIMIT, name, old.uid, spec.to_patch())
        if (view := read_published_limit(body, ledger)) is not None:
            # If the API server stores something else (an older definition), don't write it again and again.
            present[name] = PublishedView(view.name, view.uid, spec)
        logger.info("published the limit of %s as the SpokeLimit %s", spec.scope, name)

    def _failed(self, name: str, change: Change | None, message: str, *, quiet: bool = False) -> _Failure:
        old = self._failures.get(name)
        count = old.count + 1 if old is not None else 1
        wanted = change.spec if isinstance(change, Put) else None
        if quiet:
            message = old.message if old is not None else ""
        elif old is None or old.message != message:
            what = f"the limit of {change.spec.scope} is not published" if isinstance(change, Put) else "limits"
            logger.warning("%s; retrying: %s", what, message, extra={"spokelimit": name})
        failure = _Failure(wanted, count, self._clock() + _BACKOFF.after(count), message)
        self._failures[name] = failure
        return failure

    def _report(self, limits: Sequence[JobLimit]) -> None:
        """Log once what the operator does not obey."""
        problems = {f"{item.scope}: {problem}" for item in limits if (problem := not_obeyed(item.scope))}
        for problem in sorted(problems - self._reported):
            logger.warning("a limit of the ledger is not obeyed: %s", problem)
        self._reported = frozenset(problems)


def declare(engine: Engine, registry: Registry, app: str) -> None:
    """Store the limits that the application declares, as a worker does. A failure does not affect the rest.

    Warn of those whose type it does not declare.
    """
    for warning in undeclared_types(registry.limits, registry.jobs):
        logger.warning("%s", warning)
    try:
        SqlLimits(engine).declare(registry.limits, app)
    except SQLAlchemyError as error:
        logger.warning("could not store the declared limits: %s", type(error).__name__)
