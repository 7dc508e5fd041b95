"""The errors that the library raises on purpose. Each message says what is wrong, and what to do.

::

    SpokeJobsError
     ├─ ConfigurationError       at start-up
     │   └─ MissingSettings
     ├─ DatabaseError
     │   ├─ DatabaseNotMigrated
     │   └─ DatabaseUnreachable
     ├─ RegistrationError        in a declaration
     ├─ UnknownName              in a dispatch
     ├─ InvalidPayload
     ├─ InvalidJobData
     ├─ UniquenessConflict
     ├─ TaskBufferFull
     ├─ InvalidResult            at the end of an attempt
     ├─ Superseded
     ├─ Cancelled
     ├─ RetryLater               raised by a job itself
     └─ Discard
"""

from __future__ import annotations


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


class DatabaseUnreachable(DatabaseError):
    """The database did not answer."""


class RegistrationError(SpokeJobsError):
    """A job or task can't be declared: its name is taken or invalid, or its function or an option can't be used."""


class UnknownName(SpokeJobsError):
    """No job (or task) of that name is registered."""


class InvalidPayload(SpokeJobsError):
    """The payload isn't JSON, doesn't validate against its model, or is too large."""


class InvalidJobData(SpokeJobsError):
    """An option of a dispatch can't be honored, for example a queue lock without a queue."""


class UniquenessConflict(SpokeJobsError):
    """Two transactions took uniqueness keys in opposite orders, so that neither could go on."""


class TaskBufferFull(SpokeJobsError):
    """Tasks are dispatched faster than they can be delivered, and the time to wait for room has passed."""


class InvalidResult(SpokeJobsError):
    """A job's result isn't JSON, or is too large for its row."""


class Superseded(SpokeJobsError):
    """Another process holds this attempt's job, or the job has ended. What this attempt wrote is rolled back."""


class Cancelled(SpokeJobsError):
    """The job was asked to stop, and has stopped."""


class RetryLater(SpokeJobsError):
    """Raised by a job to run again after some seconds. Such an attempt is not charged."""

    def __init__(self, seconds: float, reason: str = "") -> None:
        given: object = seconds
        if isinstance(given, bool) or not isinstance(given, (int, float)) or not 0 <= given <= 1e9:
            raise ValueError(f"RetryLater takes a number of seconds from 0, not {seconds!r}")
        super().__init__(reason or f"the job asked to be run again in {seconds:g} s")
        self.seconds = float(seconds)


class Discard(SpokeJobsError):
    """Raised by a job to fail for good, with this reason."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
