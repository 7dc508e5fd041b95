"""Every error that the library raises on purpose: each message names the thing that is wrong and the way out."""

from __future__ import annotations


class SpokeJobsError(Exception):
    """The base of them all."""


class ConfigurationError(SpokeJobsError):
    """The process can't start as it is configured: an unknown runner, a missing setting, an unknown module."""


class MissingSettings(ConfigurationError):
    """The runner lacks settings; the message names each of them."""


class DatabaseError(SpokeJobsError):
    """The database can't serve as a ledger as it is."""


class DatabaseNotMigrated(DatabaseError):
    """The ledger's tables aren't there, or are of another release."""


class DatabaseUnreachable(DatabaseError):
    """The database did not answer."""


class RegistrationError(SpokeJobsError):
    """A job or task can't be declared: its name is taken or isn't one, or its function can't be called as one."""


class UnknownName(SpokeJobsError):
    """No job (or task) of that name is registered."""


class InvalidPayload(SpokeJobsError):
    """The payload isn't JSON, doesn't validate against its model, or is too large."""


class InvalidJobData(SpokeJobsError):
    """A dispatch's other fields can't be honoured: a queue lock without a queue, a name that is too long."""


class UniquenessConflict(SpokeJobsError):
    """Two transactions took uniqueness keys in opposite orders, so that neither could go on."""


class InvalidResult(SpokeJobsError):
    """What a job returned isn't JSON, or is too large to stand in a row."""


class Superseded(SpokeJobsError):
    """Another process holds this attempt's job now, or it has ended: what this one wrote is rolled back."""


class Cancelled(SpokeJobsError):
    """The job was asked to stop, and did."""


class RetryLater(SpokeJobsError):
    """Raised by a job to be run again after so many seconds, uncharged: it isn't its turn yet."""

    def __init__(self, seconds: float, reason: str = "") -> None:
        given: object = seconds
        if isinstance(given, bool) or not isinstance(given, (int, float)) or not 0 <= given <= 1e9:
            raise ValueError(f"RetryLater takes a number of seconds from 0, not {seconds!r}")
        super().__init__(reason or f"the job asked to be run again in {seconds:g} s")
        self.seconds = float(seconds)


class Discard(SpokeJobsError):
    """Raised by a job that is not to be run any more: it fails for good, with this reason."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)


class TaskBufferFull(SpokeJobsError):
    """Tasks are dispatched faster than they can be delivered, and the wait for room is over."""
