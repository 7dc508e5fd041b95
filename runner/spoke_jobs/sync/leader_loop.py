"""The loop of the active sync: run each routine when it is due. It ends with an exception, or when told to stop.

After an error of the API server, the same loop is served again: what it knows of the ledger, of failed actions and of
pods' output stays.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar
from uuid import UUID

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from spoke_jobs.cluster.cluster_client import SpokeJobClient
from spoke_jobs.cluster.pod_logs import read_outputs
from spoke_jobs.contract.executors import CLUSTER_RUNNER, LANE_RUNNER
from spoke_jobs.execution.contained_routines import ContainedRoutines
from spoke_jobs.ledger.cluster import ended_attempts, syncing
from spoke_jobs.ledger.cluster.syncing import SyncRow
from spoke_jobs.ledger.columns.clock import read_clock
from spoke_jobs.ledger.engine import reason_of
from spoke_jobs.ledger.limits_and_pauses.limit_rows import ledger_identity, read_limits
from spoke_jobs.ledger.maintenance import overflow, pruning, reaping, settling, start_timeouts, strays
from spoke_jobs.limits.job_limit import JobLimit
from spoke_jobs.model import JobFilter
from spoke_jobs.registry import Registry
from spoke_jobs.runners.ticker import Ticker
from spoke_jobs.shared.api_errors import ApiError, ApiUnavailable
from spoke_jobs.sync import overflow_looks
from spoke_jobs.sync.decide import decide
from spoke_jobs.sync.effects import PROGRESS_SECONDS, Effects
from spoke_jobs.sync.limit_publisher import LimitPublisher
from spoke_jobs.sync.output_keeper import OutputKeeper
from spoke_jobs.sync.overflow_looks import Looks
from spoke_jobs.sync.sync_metrics import SyncHealth
from spoke_jobs.sync.sync_model import Action, Launch, LedgerAction, Mirror, Row, SpokeJobView, read_view
from spoke_jobs.sync.undecided import FAILED
from spoke_jobs.sync.watch import Inbox, NotifyListener, Watcher
from spoke_jobs.sync.writer import ConnectionLost, Writer

logger = logging.getLogger(__name__)
T = TypeVar("T")

_PROGRESS_BUDGET_SECONDS = 1.0
"""How long progress updates may delay the launches of a turn."""
_BATCH = 200
_CANDIDATES = 2_000
"""How many jobs that may move to pods are read at a time: of the first ones, none may move yet."""
_PRUNED_AT_ONCE = 1000
_OWN = (JobFilter(runner=CLUSTER_RUNNER), JobFilter(runner=LANE_RUNNER))
_LOOKED_AT, _LOOKS = 5000, 5
"""How many attempts are read at a time for metrics, and how often in a row."""
_PRUNE_AGAIN_SECONDS = 300.0
_REST = 20
"""How many times longer a statement that reads all waiting jobs of the lane `worker` rests than it takes."""
_LOST_SECONDS = 300.0
"""For how long a lease in the lane `worker` must be over before sync ends its attempt, and for how long the database
must have answered in time. Until then it is left to the reapers of workers, and to owners that renew, or record their
attempt's end, late after an outage."""
_IN_TIME_SECONDS = 15.0
"""If the database takes longer than this for a look at lost attempts, owners may not have been able to renew."""
_BETWEEN_LOOKS_SECONDS = 60.0
"""Likewise if sync did not look for so long: it may have been cut off. But it may also have been busy, for example with
very many SpokeJobs, so this is a small part of the time for which a lease must be over."""
_TICKS, _PUBLISHES = "dispatches the jobs of schedules", "publishes limits"
_STARTS = "passes on changed starts"
_COMPARES, _FOLLOWS = "compares ledger and cluster", "follows SpokeJobs"
_SETTLES, _LAUNCHES, _PRUNES = "unblocks dependents", "launches jobs", "prunes"
_ENDS_STRAYS = "ends attempts and deletes locks without an owner"
_MOVES = "moves jobs that no worker takes to pods"
_MEASURES = "counts what attempts used"
_SERVES_LANE = "ends lost attempts and late starts of the lane worker"
_SHOWS, _DECIDES_AGAIN, _STORES = "shows progress", "decides again", "stores the output of pods"
"""The names of the routines whose errors do not affect the others."""


@dataclass(frozen=True, slots=True)
class Intervals:
    """Seconds between two runs of each routine, and how long a row is left to the dispatching process."""

    launch: float = 1.0
    limits: float = 1.0
    progress: float = PROGRESS_SECONDS
    compare: float = 30.0
    strays: float = 5.0
    prune: float = 60.0
    patience: float = syncing.PATIENCE_SECONDS


class LeaderLoop:
    """The state of the loop while the connection to the database holds the lock of the active sync."""

    def __init__(
        self,
        writer: Writer,
        api: SpokeJobClient,
        health: SyncHealth,
        intervals: Intervals,
        clock: Callable[[], float] = time.monotonic,
        listener: NotifyListener | None = None,
        registry: Registry | None = None,
    ) -> None:
        self._writer = writer
        self._api = api
        self._inbox = Inbox()
        self._health = health
        self._intervals = intervals
        self._clock = clock
        self._answers_since = self._answered_at = clock()
        self._patience = timedelta(seconds=intervals.patience)
        self._effects = Effects(writer, api, clock, health.done, health.failures, intervals.patience)
        self._watcher = Watcher(api, self._inbox)
        self._outputs = OutputKeeper(writer, lambda pod: read_outputs(api, pod), clock)
        self._limits = LimitPublisher(self._read_limits, self._identity, api, clock)
        self._routines = ContainedRoutines(
            logger, (ConnectionLost, ApiError), lambda: health.failures.update([FAILED]), clock
        )
        self._running: dict[UUID, str] = {}
        self._settled_to = 0
        self._usage = ended_attempts.FIRST_LOOK
        self._overflow_looks = Looks()
        self._events_to: int | None = None
        self._compared_to: int | None = None
        self._launched_to: int | None = None
        self._pruned_at_once = _PRUNED_AT_ONCE
        self._due = {"limits": 0.0, "settle": 0.0, "launch": 0.0, "progress": 0.0, "compare": 0.0, "prune": 0.0}
        self._due["strays"] = self._due["starts"] = 0.0
        self._next_overflow = 0.0
        self._ticker = (
            Ticker(registry, CLUSTER_RUNNER, writer.transaction, writer.transaction, lag=health.schedule_lag)
            if registry
            else None
        )
        self._refused: ApiError | None = None
        """Why the API server can't be used, as this turn has found."""
        self._listener = listener
        self._listen()

    def serve(self, stop: threading.Event) -> None:
        """Run until told to stop. After an :class:`ApiError`, it may be called again.

        :raises ApiUnavailable: if the API server can't be used.
        :raises ApiError: if the API server refuses to list the SpokeJobs.
        :raises ConnectionLost: if the database can't be used.
        """
        self._watcher.start()
        try:
            while not stop.is_set():
                self.turn()
                self._health.turned()
                pause = min(self._due.values()) - self._clock()
                if self._ticker is not None:
                    pause = min(pause, max(self._ticker.due_in(), self._routines.due_in(_TICKS)))
                self._inbox.wait(max(0.0, pause))
        finally:
            self._watcher.stop()
            # The old thread may be about to put an outdated SpokeJob into its inbox.
            self._inbox = Inbox()
            self._watcher = Watcher(self._api, self._inbox)
            self._listen()
            self._due["compare"] = 0.0

    def close(self, *, stores: bool) -> None:
        """End the threads.

        :param stores: store what is known of the output of attempts that are being stopped: nobody else has it.
        :raises ConnectionLost: if the database can't be used.
        """
        try:
            if stores:
                self._outputs.store_rest()
        finally:
            self._outputs.close()

    def _listen(self) -> None:
        if self._listener is not None:
            self._listener.on_notify = self._inbox.notify

    def turn(self) -> None:
        """Run the routines that are due. Those that need only the database run although the API server can't be used.

        :raises ApiError: of the first routine that the API server refused.
        """
        self._refused = None
        self._run_due()
        if self._refused is not None:
            raise self._refused

    def _run_due(self) -> None:
        changes, gap = self._inbox.take()
        if gap:
            self._due["compare"] = 0.0
        contained = self._routines.call
        contained(_TICKS, self._tick, None)
        notified = self._inbox.take_notified()
        if notified:
            self._due["launch"] = self._due["limits"] = self._due["starts"] = 0.0
        if self._is_due("limits", self._intervals.limits):  # before the launches, so that a pause holds them
            self._with_api_server(lambda: contained(_PUBLISHES, self._limits.publish, 0))
        if self._is_due("starts", self._intervals.launch):
            self._with_api_server(lambda: contained(_STARTS, self._pass_on_starts, None))
        if self._is_due("compare", self._intervals.compare):
            self._with_api_server(lambda: self._try_to_read(_COMPARES, self._compare))
        elif changes:
            self._with_api_server(lambda: self._try_to_read(_FOLLOWS, lambda: self._follow(changes)))
        if self._is_due("settle", self._intervals.launch):
            contained(_SETTLES, self._settle, None)
        if self._is_due("strays", self._intervals.strays):
            contained(_ENDS_STRAYS, self._end_strays, None)
            contained(_MOVES, self._move_overflowed, None)
            contained(_SERVES_LANE, self._serve_lane, None)
            contained(_MEASURES, self._count_usage, None)
        if self._is_due("launch", self._intervals.launch):
            # A process that notifies leaves the launch to sync, so there is no need to wait for the process.
            patience = timedelta(0) if notified else self._patience
            self._with_api_server(lambda: contained(_LAUNCHES, lambda: self._launch(patience), None))
        if self._is_due("progress", self._intervals.progress):
            self._with_api_server(lambda: contained(_SHOWS, self._show_progress, None))
        if self._is_due("prune", self._intervals.prune):
            contained(_PRUNES, self._prune, None)
        self._with_api_server(lambda: contained(_DECIDES_AGAIN, self._decide_again, None))
        contained(_STORES, self._outputs.store, 0)

    def _with_api_server(self, routine: Callable[[], object]) -> None:
        """Call a routine that needs the API server, unless this turn has found that it can't be used."""
        try:
            if self._refused is None:
                routine()
        except ApiError as error:
            self._refused = error

    def _try_to_read(self, name: str, routine: Callable[[], None]) -> None:
        """Call a routine that reads SpokeJobs. If it raises an error, compare soon: changes may be missing."""

        def done() -> bool:
            routine()
            return True

        if not self._routines.call(name, done, False):
            self._due["compare"] = min(self._due["compare"], self._clock() + self._routines.due_in(name))

    def _read_limits(self) -> list[JobLimit]:
        with self._writer.transaction() as connection:
            return read_limits(connection)

    def _identity(self) -> str:
        with self._writer.transaction() as connection:
            return ledger_identity(connection)

    def _is_due(self, what: str, every: float) -> bool:
        now = self._clock()
        if now < self._due[what]:
            return False
        self._due[what] = now + every
        return True

    def _compare(self) -> None:
        """Compare the rows with all SpokeJobs. Rows are read first, so a SpokeJob missing from the listing is gone.

        If there are very many rows, this reads some of them, and the next comparison goes on behind them.
        """
        started = self._clock()
        with self._reading() as (connection, now):
            found = syncing.unfinished(connection, self._compared_to)
        rows = _rows(found.rows)
        spokejobs: dict[str, SpokeJobView] = {}
        remembered: set[str] = set()
        version = ""
        try:
            for page in self._api.pages():
                version = page.resource_version
                for body in page.items:
                    try:
                        seen = read_view(body)
                    except Exception:
                        logger.exception("a SpokeJob could not be read")
                        continue
                    if not seen.settled or self._outputs.is_postponed(seen.name):
                        spokejobs[seen.name] = seen
                    if self._outputs.remembers(seen.name):
                        remembered.add(seen.name)
        except ApiError:
            self._due["compare"] = 0.0
            raise
        self._health.listed()
        self._effects.replace(spokejobs)
        self._outputs.keep(remembered)
        actions = [action for row in rows for action in self._decide_on(row, now, self._patience)]
        known = {row.name for row in rows}
        rest = [seen for seen in spokejobs.values() if seen.name not in known]
        for batch in _batches(rest):
            # Their rows were inserted during the listing, or are final. The SpokeJob may not show the final state yet.
            actions += self._decide(batch)
        self._carry_out(actions, self._health.repaired)
        self._compared_to = found.last
        self._watcher.listed(version)
        self._health.compared(self._clock() - started)
        logger.debug("compared %d rows with %d SpokeJobs in %.2f s", len(rows), len(spokejobs), self._clock() - started)

    def _follow(self, changes: list[tuple[SpokeJobView, bool]]) -> None:
        """Handle the changes that the watch reported."""
        for seen, deleted in changes:
            if deleted:
                self._effects.forget(seen.name)
            else:
                self._effects.spokejobs[seen.name] = seen
        for batch in _batches([seen for seen, _ in changes]):
            self._carry_out(self._decide(batch))
        for seen, deleted in changes:
            if deleted:  # last, because the decision about an earlier run sees its output
                self._outputs.forget(seen.name)

    def _launch(self, patience: timedelta) -> None:
        """Launch rows without a SpokeJob: after a crash or an outage, or because dispatch leaves this to sync.

        If there are many, the next call goes on behind these: some may stay as they are, whatever other code wrote.
        """
        with self._reading() as (connection, now):
            waiting = self._effects.backoffs.waiting()
            found = syncing.unlaunched(connection, patience.total_seconds(), waiting, _BATCH, self._launched_to)
        rows = _rows(found)
        self._launched_to = found[-1][0].id if len(found) == _BATCH else None
        self._carry_out(action for row in rows for action in self._decide_on(row, now, patience))
        if self._launched_to is not None:  # there are more; the other routines run in between
            self._due["launch"] = 0.0
            if not patience:
                self._inbox.notify()

    def _tick(self) -> None:
        """Dispatch the jobs of schedules. A failure does not affect the other routines."""
        if self._ticker is None:
            return
        try:
            if self._ticker.tick_if_due():
                self._inbox.notify()
        except DBAPIError as error:
            logger.warning("could not dispatch the jobs of schedules (%s); retrying", reason_of(error))

    def _show_progress(self) -> None:
        """Update the progress on SpokeJobs, for jobs that run now or ran at the last call."""
        with self._reading() as (connection, now):
            rows = _rows(syncing.claimed(connection))
            running = {row.job.uid: row.name for row in rows}
            ended = self._running.keys() - running.keys()
            rows += _rows(syncing.of_uids(connection, ended))
        self._running = running
        known = self._effects.spokejobs
        self._carry_out(
            action for row in rows if row.name in known for action in self._decide_on(row, now, self._patience)
        )

    def _pass_on_starts(self) -> None:
        """Pass on what somebody has changed about the starts of jobs since the last call."""
        with self._reading() as (connection, now):
            if self._events_to is None:  # the first comparison finds what was changed before
                self._events_to = syncing.last_event(connection)
                return
            found, last = syncing.changed_starts(connection, self._events_to)
        known = self._effects.spokejobs
        self._carry_out(
            action for row in _rows(found) if row.name in known for action in self._decide_on(row, now, self._patience)
        )
        self._events_to = last

    def _settle(self) -> None:
        """Go on with the dependents of jobs that have ended, before the unblocked ones are launched."""
        settled = self._try(
            "unblock dependents", lambda connection: settling.settle_ended(connection, above=self._settled_to)
        )
        if settled is not None:
            self._settled_to = settled.last

    def _try(self, what: str, routine: Callable[[Connection], T]) -> T | None:
        """Call a routine in a transaction. A failure, such as a deadlock, does not affect the other routines."""
        try:
            with self._writer.transaction() as connection:
                return routine(connection)
        except DBAPIError as error:
            logger.warning("could not %s; trying again: %s", what, reason_of(error))
            return None

    def _end_strays(self) -> None:
        """End attempts and delete queues' locks that no pod owns."""
        self._try("end attempts without an owner", strays.end_strays)

    def _serve_lane(self) -> None:
        """Do for the lane `worker` what its workers do while one runs: end lost attempts, and jobs that start too late.

        A failure does not affect the other routines.
        """
        begun = self._clock()
        if begun - self._answered_at > _BETWEEN_LOOKS_SECONDS:
            self._answers_since = begun

        def serve(connection: Connection) -> bool:
            if begun - self._answers_since >= _LOST_SECONDS and reaping.reap(
                connection, LANE_RUNNER, _BATCH, others=False, lapsed_seconds=_LOST_SECONDS
            ):
                self._due["launch"] = 0.0  # they may have moved to pods
            # Sync may have another release of the application's code than the workers, so it names no unknown type.
            start_timeouts.expire_starts(connection, LANE_RUNNER, None, _BATCH)
            return True

        if not self._try("end jobs that workers have lost", serve):
            self._answers_since = self._clock()
            return
        self._answered_at = self._clock()
        if self._answered_at - begun > _IN_TIME_SECONDS:
            self._answers_since = self._answered_at

    def _move_overflowed(self) -> None:
        """Move jobs of the lane `worker` that have waited for a free worker for too long to pods.

        The look reads all jobs that wait for a worker. If they are many, it is repeated less often. A failure does not
        affect the other routines.
        """
        begun = self._clock()
        if begun < self._next_overflow:
            return

        def move(connection: Connection) -> tuple[Looks, int]:
            waits = overflow.look(connection, self._overflow_looks.last_attempt, _CANDIDATES)
            looks, late = overflow_looks.look(self._overflow_looks, waits, begun)
            return looks, len(overflow.move_to_pods(connection, late[:_BATCH]))

        done = self._try("move jobs that no worker takes", move)
        if done is None:
            return
        looks, moved = done
        self._overflow_looks = looks
        self._next_overflow = self._clock() + _REST * (self._clock() - begun)
        if moved:
            self._due["launch"] = 0.0
            logger.info("moved %d jobs to pods, because no worker was free for them in time", moved)

    def _count_usage(self) -> None:
        """Count what the attempts used that have ended since the last look. A failure loses nothing but time."""
        for _ in range(_LOOKS):
            usage = self._try(
                "read what attempts used", lambda connection: ended_attempts.look(connection, self._usage, _LOOKED_AT)
            )
            if usage is None:
                return
            self._usage = usage
            self._health.ended(usage.ended)
            if not usage.more:
                return

    def _prune(self) -> None:
        """Delete rows whose retention is over. A failure does not affect the other routines."""
        try:
            with self._writer.transaction() as connection:
                pruned = [pruning.prune(connection, self._pruned_at_once, which=which) for which in _OWN]
        except DBAPIError as error:
            # A foreign key from the application's tables may lack an index: each row then costs a full scan.
            self._due["prune"] = self._clock() + _PRUNE_AGAIN_SECONDS
            logger.warning(
                "pruning failed (%d finished jobs at once: %s); trying fewer in %.0f min",
                self._pruned_at_once,
                reason_of(error),
                _PRUNE_AGAIN_SECONDS / 60,
            )
            self._pruned_at_once = max(1, self._pruned_at_once // 10)
            return
        if any(each.examined == self._pruned_at_once for each in pruned):
            self._due["prune"] = self._clock() + 1.0  # there may be more; the other routines run in between
            self._pruned_at_once = min(_PRUNED_AT_ONCE, self._pruned_at_once * 2)
        if deleted := sum(each.deleted for each in pruned):
            logger.info("pruned %d finished jobs whose retention is over", deleted)

    def _decide_again(self) -> None:
        """Decide again on SpokeJobs that the last actions changed. Once is enough: the next turn follows soon."""
        names, self._effects.decide_again = self._effects.decide_again, set()
        known = [self._effects.spokejobs[name] for name in names if name in self._effects.spokejobs]
        for batch in _batches(known):
            self._carry_out(self._decide(batch))

    def _decide(self, batch: list[SpokeJobView]) -> list[Action]:
        """Decide on changed SpokeJobs, each with its current row. Ignore those without a row."""
        with self._reading() as (connection, now):
            rows = _rows(syncing.of_uids(connection, {seen.job_uid for seen in batch if seen.job_uid is not None}))
        by_uid = {row.job.uid: row for row in rows}
        for seen in batch:
            row = by_uid.get(seen.job_uid) if seen.job_uid is not None else None
            if row is not None and seen.run < row.job.run:  # the decision concerns the SpokeJob of the later run
                self._effects.undecided.read_earlier_run(row, seen.run, partial(self._outputs.see, row, seen))
        return [action for row in rows for action in self._decide_on(row, now, self._patience)]

    def _decide_on(self, row: Row, now: datetime, patience: timedelta) -> tuple[Action, ...]:
        """Decide on one row with its SpokeJob, if there is one. An error delays only this row."""
        try:
            # If the row is in a later run, its SpokeJob has another name, which may be unknown.
            seen = self._effects.spokejobs.get(row.name)
            if seen is not None:
                self._outputs.see(row, seen)
            actions = decide(row, seen, now, patience)
        except Exception as error:
            self._effects.decide_again.add(row.name)
            return self._effects.undecided.failed(row, error)
        self._effects.undecided.succeeded(row)
        return actions

    def _carry_out(self, actions: Iterable[Action], count: Counter[str] | None = None) -> None:
        """Carry out actions. Progress updates come last, within their time budget, and are not counted.

        Launches come after what concerns existing SpokeJobs, because a webhook may refuse all new ones. If the API
        server can't be used, the actions that need only the ledger are carried out nevertheless.
        """
        launches: list[Launch] = []
        progress: list[Mirror] = []
        unavailable: ApiUnavailable | None = None

        def do(action: Action) -> None:
            nonlocal unavailable
            self._health.turned()  # a long list must not look like a loop that hangs
            if unavailable is not None and not isinstance(action, LedgerAction):
                return
            try:
                if self._effects.carry_out(action) and count is not None:
                    count[type(action).__name__] += 1
            except ApiUnavailable as error:
                unavailable = error

        for action in actions:
            if isinstance(action, Launch):
                launches.append(action)
            elif isinstance(action, Mirror) and action.ledger is action.seen.ledger:
                progress.append(action)
            else:
                do(action)
        for launch in launches:
            do(launch)
        if unavailable is not None:
            raise unavailable
        until = self._clock() + _PROGRESS_BUDGET_SECONDS
        for action in progress:
            if self._clock() > until:
                return
            self._effects.carry_out(action)

    @contextmanager
    def _reading(self) -> Iterator[tuple[Connection, datetime]]:
        """Open a transaction. Yield its connection, and the database's time before the first read."""
        with self._writer.transaction() as connection:
            now = read_clock(connection)
            assert now is not None
            yield connection, now


def _rows(found: Iterable[SyncRow]) -> list[Row]:
    """Return the rows in their order: SpokeJobs of one locked queue are created in it."""
    return sorted((Row(job, live) for job, live in found), key=lambda row: row.job.id)


def _batches(items: list[SpokeJobView]) -> Iterator[list[SpokeJobView]]:
    for start in range(0, len(items), _BATCH):
        yield items[start : start + _BATCH]
