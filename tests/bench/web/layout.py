"""How many rows of each kind the database has, and their ids and names. Pure.

The jobs up to :attr:`Layout.history` have ended before the last day. They are written once, and later runs take them.
All other rows are *recent*: each run writes them again, so that they are as old as they should be. The ids of recent
jobs have gaps, so that jobs of all states are mixed as in a ledger where some wait while others are run.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

DAYS = 30
"""The age of the oldest job. The last day's jobs are recent."""
TYPES, ORGANIZATIONS, QUEUES, FINGERPRINTS, SCHEDULES = 1_000, 10_000, 200, 400, 1_000
AREAS = ("mail", "sync", "import", "report", "billing", "search", "media", "audit")
"""A type is called `mail.task8`: the number decides the area. Low numbers have the most jobs."""
SMALL_ORGANIZATION = ORGANIZATIONS
"""Has some 20 jobs. The numbers below it have the more jobs, the lower they are."""
RARE_TYPE, RARE_CAUSE, RARE_QUEUE = "retired.import", "InvalidResult", "queue-of-old"
RARE_FINGERPRINT = "LookupError@shop.retired.load"
"""What only some ten jobs have, which ended over two weeks ago: the worst case of a search from the newest job down."""
RARE = 20
"""How many jobs of the history have a rare value; those of its newer half do not count."""
BATCHED_DAYS = 7
"""Batches are as old as this at most: older ones are pruned."""
RUNNING, BLOCKED, LOCKED_QUEUES = 40, 500, 20
TASKS, EVENTS_BY_JOBS = 50_000, 20
"""Tasks of the outbox; and for how many jobs there is an event."""
BYTES_PER_JOB = 1_600
"""Of disk space, with indexes and the parts of other tables."""
BYTES_BESIDE = 3 * 10**9
"""Of disk space for the write-ahead log, and for sorting while indexes are made."""


class Lane(IntEnum):
    """What a recent job is. The last two bits of its id, counted from the first recent one."""

    FINISHED = 0
    WAITING = 1
    RUNNING = 2
    BLOCKED = 3


@dataclass(frozen=True, slots=True)
class Layout:
    """The rows of one database."""

    rows: int
    """Finished jobs."""
    waiting: int

    def __post_init__(self) -> None:
        if self.rows < 20_000 or self.waiting < BLOCKED:
            raise ValueError(f"ROWS is at least 20,000, and WAITING at least {BLOCKED}")

    @property
    def recent_finished(self) -> int:
        """Finished jobs of the last day."""
        return self.rows // DAYS

    @property
    def history(self) -> int:
        """Older ones, which have the ids from 1."""
        return self.rows - self.recent_finished

    @property
    def span(self) -> int:
        """How many places recent jobs have; in each, one of each lane."""
        return self.recent_finished + self.waiting

    @property
    def last_id(self) -> int:
        """The highest id that a job may have."""
        return self.history + 4 * self.span

    @property
    def rare_every(self) -> int:
        """Every how many ids there is a rare value."""
        return self.history // RARE

    @property
    def first_batched(self) -> int:
        """The first job that may be in a batch."""
        return self.history - self.history * BATCHED_DAYS // DAYS

    @property
    def events(self) -> int:
        """Rows of the audit table."""
        return self.rows // EVENTS_BY_JOBS

    @property
    def bytes(self) -> int:
        """Disk space that the database takes while it is made."""
        return self.rows * BYTES_PER_JOB + BYTES_BESIDE

    def counted(self, lane: Lane) -> int:
        """Return how many recent jobs of a lane there are."""
        numbers = {
            Lane.FINISHED: self.recent_finished,
            Lane.WAITING: self.waiting,
            Lane.RUNNING: RUNNING,
            Lane.BLOCKED: BLOCKED,
        }
        return numbers[lane]

    def recent_id(self, lane: Lane, number: int) -> int:
        """Return the id of a recent job, counted from 0. `fill` has the same in SQL."""
        return self.history + 1 + 4 * (number * self.span // self.counted(lane)) + lane

    def rare_id(self, remainder: int) -> int:
        """Return the second of the jobs that have a rare value."""
        return self.rare_every + remainder

    def batch_of(self, job_id: int) -> int:
        """Return the batch of a job that is in one."""
        return job_id // JOBS_PER_BATCH


JOBS_PER_BATCH = 200
"""For as many ids there is a batch, which has every tenth of these jobs."""
POD_EVERY = 5
"""Every fifth job runs in a pod. A worker claims the others."""


def runs_in_pods(job_id: int) -> bool:
    """Whether the operator starts a job."""
    return job_id % POD_EVERY == 0


def type_name(number: int) -> str:
    """Return the name of a type."""
    return f"{AREAS[number % len(AREAS)]}.task{number}"
