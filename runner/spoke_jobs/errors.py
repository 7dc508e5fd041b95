"""The errors that the library raises on purpose. Each message says what is wrong, and what to do.

::

    SpokeJobsError
     ├─ ConfigurationError       at start-up
     │   └─ MissingSettings
     ├─ DatabaseError
     │   ├─ DatabaseNotMigrated
     │   ├─ MigrationRefused
     │   └─ DatabaseUnreachable
     │       └─ DatabaseRefused
     ├─ RegistrationError        in a declaration
     ├─ InvalidSchedule
     ├─ UnknownName              in a dispatch
     ├─ InvalidPayload
     ├─ InvalidJobData
     ├─ InvalidLimit             in a limit or a pause
     ├─ InvalidMute
     ├─ UniquenessConflict
     ├─ DependencyNotMet         at a retry by hand
     ├─ ChangeRefused            in a change of a job's start
     ├─ TaskBufferFull
     ├─ InvalidCheckpoint        in a running attempt
     ├─ InvalidResult            at its end
     ├─ Superseded
     ├─ Cancelled
     ├─ RetryLater               raised by a job itself
     └─ Discard
"""

from __future__ import annotations

from spoke_jobs.shared import durations


class SpokeJobsError(Exception):
    """The base class of the library's errors."""


class ConfigurationError(SpokeJobsError):
    """The process can't start with its configuration: an unknown runner, a missing setting, an unknown module."""


class MissingSettings(ConfigurationError):
    """The runner lacks settings. The message names each of them."""


class DatabaseError(SpokeJobsError):
    """The database can't serve as a ledger in its present state."""


class DatabaseNotMigrated(DatabaseError):
    """The ledger's tables are missing, or belong to another release."""


class MigrationRefused(DatabaseError):
    """The tables can't be migrated as they are now. The message says what to do first."""


class DatabaseUnreachable(DatabaseError):
    """The database did not answer."""


class DatabaseRefused(DatabaseUnreachable):
    """The database's server answered, and refused the user, the password or the database's name."""


class RegistrationError(SpokeJobsError):
    """A job or task can't be declared: its name is taken or invalid, or its function or an option can't be used."""


class InvalidSchedule(SpokeJobsError):
    """A schedule can't be used: its cron line, time zone, interval, name or a rule is wrong, or it is never due."""


class UnknownName(SpokeJobsError):
    """No job (or task) of that name is registered."""


class InvalidPayload(SpokeJobsError):
    """The payload isn't JSON, doesn't validate against its model, or is too large."""


class InvalidJobData(SpokeJobsError):
    """An option of a dispatch can't be honored, for example a queue lock without a queue."""


class InvalidLimit(SpokeJobsError):
    """A limit or a pause has an unknown scope, or a value that can't be honored."""


class InvalidMute(SpokeJobsError):
    """A mute names no failures or gives no reason, or its end is over."""


class UniquenessConflict(SpokeJobsError):
    """Two transactions took unique keys in opposite orders, so that neither could continue."""


class DependencyNotMet(SpokeJobsError):
    """A job can't be started again while a job that it depends on has failed."""


class ChangeRefused(SpokeJobsError):
    """A job's state does not allow that somebody changes when it starts. The message says why, and what to do."""


class TaskBufferFull(SpokeJobsError):
    """Tasks are dispatched faster than they can be delivered, and the time to wait for room has passed."""


class InvalidCheckpoint(SpokeJobsError):
    """A checkpoint, or a step's result, isn't JSON or is too large for its row; or a step's name can't be used."""


class InvalidResult(SpokeJobsError):
    """A job's result isn't JSON, or is too large for its row."""


class Superseded(SpokeJobsError):
    """Another process holds this attempt's job, or the job has ended. What this attempt wrote is rolled back."""


class Cancelled(SpokeJobsError):
    """The job was asked to stop, and has stopped."""


class RetryLater(SpokeJobsError):
    """Raised by a job to run again after some seconds. The attempt that raises it is not charged."""

    def __init__(self, seconds: float, reason: str = "") -> None:
        given: object = seconds
        if isinstance(given, bool) or not isinstance(given, (int, float)) or not 0 <= given <= 1e9:
            raise ValueError(f"RetryLater takes a number of seconds from 0, not {seconds!r}")
        super().__init__(reason or f"the job asked to be run again in {durations.seconds(seconds)}")
        self.seconds = float(seconds)


class Discard(SpokeJobsError):
    """Raised by a job to fail for good, with this reason."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
