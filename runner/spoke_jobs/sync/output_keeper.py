"""Keep what the cluster says about failed attempts in the ledger, before their pods are gone.

Threads read the output, because a slow node must not delay the loop. The loop stores it. After a restart, sync reads
again what the cluster still has, and the ledger ignores what it already holds. It remembers one attempt of each
SpokeJob that exists, so its memory follows what the cluster holds.

An attempt that is being stopped is read twice: at once, because its pod goes soon, and when it has ended, because its
process may print more after SIGTERM. The ledger gets both in one report.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from operator import attrgetter
from uuid import UUID

from sqlalchemy.exc import StatementError

from spoke_jobs.ledger.cluster import reports
from spoke_jobs.model import AttemptReport, ContainerOutput
from spoke_jobs.shared.api_errors import ApiError
from spoke_jobs.shared.backoff import Backoff
from spoke_jobs.sync.decide import failed_attempts
from spoke_jobs.sync.sync_model import AttemptView, Row, SpokeJobView
from spoke_jobs.sync.writer import ConnectionLost, Writer

logger = logging.getLogger(__name__)

THREADS = 2
READERS = "outputs"
"""The beginning of the names of the threads that read."""
_TRIES = 3
"""How many times a read is tried if the API server refuses it, or if the node does not answer."""
_BACKOFF = Backoff(base=1.0, maximum=30.0)
_PATIENCE_SECONDS = 900.0
"""How long a read is repeated while the API server does not answer: the pods of failed attempts stay for longer."""
_API_SERVER_AWAY = {0, 429, 503}
"""The statuses that mean that the API server is unavailable. A node that does not answer causes other statuses."""
_STOPS_WITHIN_SECONDS = 60.0
"""An attempt that takes longer to stop is stored with the output that it had before."""
_STOPPING = 1_000
"""How many attempts that are being stopped wait for their end. If there are more, the oldest are stored."""
_QUEUED = 5_000
"""How many reads wait at most. Further attempts are postponed until a later look at their SpokeJobs."""
_STORED_AT_ONCE = 100
_Key = tuple[UUID, int, int]

ReadOutputs = Callable[[str], tuple[ContainerOutput, ...]]
"""Reads the output of a pod's containers; raises ApiError."""


@dataclass(slots=True)
class _Reading:
    row: Row
    run: int
    """The attempt's run. The row may be in a later one."""
    attempt: AttemptView
    begun_at: float
    future: Future[tuple[ContainerOutput, ...]] | None = None
    """None until the next try is due, or the attempt has ended."""
    tries: int = 1
    due: float = 0.0
    of_ended: bool = False
    """Whether the last read began after the attempt's end."""
    outputs: tuple[ContainerOutput, ...] = ()
    """What was read before the attempt ended."""

    @property
    def key(self) -> _Key:
        return self.row.job.uid, self.run, self.attempt.number


class OutputKeeper:
    """Read and store the reports of failed attempts. Only one thread may call the methods.

    :param clock: the monotonic clock, in seconds.
    """

    def __init__(self, writer: Writer, read: ReadOutputs, clock: Callable[[], float] = time.monotonic) -> None:
        self._writer = writer
        self._read = read
        self._clock = clock
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix=READERS)
        self._handled: dict[str, tuple[str, int]] = {}
        """Of each SpokeJob, by name: Kubernetes' UID, and the number of the last attempt whose read has begun."""
        self._postponed: set[str] = set()
        """The SpokeJobs with attempts whose read has not begun."""
        self._readings: deque[_Reading] = deque()
        self._unended: dict[_Key, _Reading] = {}
        """The readings of attempts that are being stopped, until they are stored."""
        self._stopping: dict[_Key, _Reading] = {}
        """Those of them that wait for the attempt's end."""
        self._problem = ""

    def see(self, row: Row, seen: SpokeJobView) -> None:
        """Begin to read the output of each failed attempt that was not seen before. If many wait, postpone it.

        :param seen: the row's SpokeJob, or that of an earlier run of the job, which a retry by hand has ended.
        """
        if seen.job_uid != row.job.uid or seen.run > row.job.run:
            return
        self._postponed.discard(seen.name)
        object_uid, last = self._handled.get(seen.name, ("", 0))
        for attempt in sorted(failed_attempts(seen), key=attrgetter("number")):
            key = (row.job.uid, seen.run, attempt.number)
            if object_uid == seen.object_uid and attempt.number <= last:
                self._see_end(key, attempt)
                continue
            if len(self._readings) >= _QUEUED:
                self._postponed.add(seen.name)
                return
            self._handled[seen.name] = seen.object_uid, attempt.number
            reading = _Reading(row, seen.run, attempt, self._clock())
            self._begin(reading)
            self._readings.append(reading)
            if not attempt.ended:
                self._unended[key] = reading

    def is_postponed(self, name: str) -> bool:
        """Whether a SpokeJob has attempts to read, although nothing else may be left to do for it."""
        return name in self._postponed

    def remembers(self, name: str) -> bool:
        """Whether anything about a SpokeJob is remembered."""
        return name in self._handled or name in self._postponed

    def keep(self, names: Collection[str]) -> None:
        """Forget all other SpokeJobs: they are gone."""
        self._handled = {name: last for name, last in self._handled.items() if name in names}
        self._postponed.intersection_update(names)

    def forget(self, name: str) -> None:
        """Forget a SpokeJob that is gone. What was read of it is stored nevertheless."""
        self._handled.pop(name, None)
        self._postponed.discard(name)

    def _see_end(self, key: _Key, attempt: AttemptView) -> None:
        """Read the output again if the attempt was being stopped and has ended now."""
        reading = self._unended.get(key)
        if reading is None or not attempt.ended or reading.attempt.ended:
            return
        reading.attempt = attempt
        if self._stopping.pop(key, None) is not None:
            self._read_again(reading)

    def _read_again(self, reading: _Reading) -> None:
        reading.begun_at, reading.tries = self._clock(), 1
        self._begin(reading)
        self._readings.append(reading)

    def store(self) -> int:
        """Store the reports that the threads have read since the last call; return their number.

        :raises ConnectionLost: if the database can't be used.
        """
        stored = 0
        for _ in range(min(len(self._readings), _STORED_AT_ONCE)):
            reading = self._readings.popleft()
            if reading.future is None and self._clock() >= reading.due:
                self._begin(reading)
            if reading.future is None or not reading.future.done():
                self._readings.append(reading)
            elif (outputs := self._outputs(reading)) is not None:
                reading.outputs = _joined(reading.outputs, outputs)
                if reading.of_ended:
                    stored += self._record(reading)
                elif reading.attempt.ended:  # it has ended since the read began
                    self._read_again(reading)
                else:
                    self._stopping[reading.key] = reading
        return stored + self._store_stopping(_STOPPING, self._clock() - _STOPS_WITHIN_SECONDS)

    def store_rest(self) -> int:
        """Store what is known of attempts that are still being stopped, because sync ends; return their number.

        :raises ConnectionLost: if the database can't be used.
        """
        return self._store_stopping(0, self._clock())

    def _store_stopping(self, most: int, before: float) -> int:
        """Store the reports of attempts whose end is not waited for any longer.

        :param most: how many remain at most; the newest do.
        :param before: those whose read began earlier than this time do not remain.
        """
        stored = 0
        while self._stopping:
            oldest = next(iter(self._stopping.values()))
            if len(self._stopping) <= most and oldest.begun_at >= before:
                break
            del self._stopping[oldest.key]
            stored += self._record(oldest)
        return stored

    def close(self) -> None:
        """Stop reading."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _begin(self, reading: _Reading) -> None:
        pod, reading.of_ended = reading.attempt.pod, reading.attempt.ended
        reading.future = self._threads.submit(lambda: self._read(pod) if pod else ())

    def _outputs(self, reading: _Reading) -> tuple[ContainerOutput, ...] | None:
        """Return the output that was read; None if the read is repeated."""
        assert reading.future is not None
        try:
            return reading.future.result()
        except ApiError as error:
            now = self._clock()
            if error.status in _API_SERVER_AWAY:
                again = now < reading.begun_at + _PATIENCE_SECONDS
            else:
                again = reading.tries < _TRIES and error.status != 403
            if again:
                reading.future, reading.due = None, now + _BACKOFF.after(reading.tries)
                reading.tries += 1
                self._readings.append(reading)
                return None
            problem = f"{error.status} {error.reason}"
            if problem != self._problem:
                logger.warning("the output of pods can't be read, and is not kept: %s", error)
            self._problem = problem
            return ()
        except Exception:  # the pod's answer has a form that nobody expected; the message is kept without it
            job, number = reading.row.job, reading.attempt.number
            logger.exception("job %d, attempt %d: its output could not be read, and is not kept", job.id, number,
                             extra={"request_id": job.id, "attempt": number})  # fmt: skip
            return ()

    def _record(self, reading: _Reading) -> bool:
        job, attempt = reading.row.job, reading.attempt
        self._unended.pop(reading.key, None)
        report = AttemptReport(
            reading.run, attempt.number, attempt.cause, attempt.message, attempt.pod, reading.outputs
        )
        try:
            with self._writer.transaction() as connection:
                return reports.record(connection, job, report)
        except ConnectionLost:
            raise
        except StatementError as error:  # only this statement failed
            logger.warning("job %d, attempt %d: its report could not be stored: %s", job.id, attempt.number,
                           type(error.orig).__name__,
                           extra={"request_id": job.id, "attempt": attempt.number})  # fmt: skip
            return False
        except Exception:  # a defect; the other reports are stored
            logger.exception("job %d, attempt %d: its report could not be stored", job.id, attempt.number,
                             extra={"request_id": job.id, "attempt": attempt.number})  # fmt: skip
            return False


def _joined(before: tuple[ContainerOutput, ...], after: tuple[ContainerOutput, ...]) -> tuple[ContainerOutput, ...]:
    """Return the newer output of each container. What cannot be read any more stays."""
    newest = {item.container: item.text[-reports.OUTPUT_LIMIT :] for item in (*before, *after)}
    return tuple(ContainerOutput(*item) for item in list(newest.items())[: reports.CONTAINERS_LIMIT])
