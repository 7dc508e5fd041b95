"""The operator's settings: environment variables with the prefix ``SPOKE_OPERATOR_``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from spoke_jobs.contract.limit_model import Pause

from .core.limits.limits import PREFIX, Limits
from .core.process.election import LeaseTimes
from .core.reconciling.cleanup import Retention

RENAMED = {
    "NEWS_PER_SECOND": "STATUS_WRITES_PER_SECOND",
    "NEWS_AT_ONCE": "STATUS_WRITES_AT_ONCE",
    "NEWS_WITHIN_SECONDS": "STATUS_WRITES_WITHIN_SECONDS",
    "DEAF_AFTER_SECONDS": "UNHEALTHY_AFTER_SECONDS",
}
"""The present names of settings by the names that the next release no longer accepts, all without the prefix."""


def old_names_warnings(environment: Mapping[str, str]) -> list[str]:
    """Return a warning for each variable that has an old name."""
    return [
        f"{PREFIX}{old} is now {PREFIX}{new}: rename it; the next release ignores the old name"
        + (f". Now {PREFIX}{new} is set, too, and applies" if f"{PREFIX}{new}" in environment else "")
        for old, new in RENAMED.items()
        if f"{PREFIX}{old}" in environment
    ]


class Settings(BaseSettings):
    """How the operator runs. Times are in seconds."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True)

    namespaces: Annotated[tuple[str, ...], NoDecode] = ()
    """Namespaces to serve, separated by commas; empty for all."""
    max_running: Annotated[int | None, Field(ge=0)] = None
    """The most attempts that run at a time in all namespaces together; 0 starts none."""
    max_running_in_namespace: Annotated[int | None, Field(ge=0)] = None
    """The most attempts that run at a time in each namespace."""
    max_running_in_queue: Annotated[int | None, Field(ge=0)] = None
    """The most attempts that run at a time in each queue of a namespace. Jobs without a queue don't count."""
    max_running_for_organization: Annotated[int | None, Field(ge=0)] = None
    """The most attempts that run at a time for each organization of a namespace. Jobs without one don't count."""
    max_unfinished_in_namespace: Annotated[int | None, Field(ge=0)] = None
    """How many unfinished SpokeJobs of each namespace, the oldest ones, may have attempts. The others wait."""
    max_pending: Annotated[int, Field(ge=1)] = 20
    """The most pods of attempts that have no node yet. At least this many may start at a time; more if there are more
    nodes, or the nodes start pods fast. The other jobs wait for their turn."""
    paused: Annotated[str, Field(max_length=200)] = ""
    """The reason of a pause of all namespaces; empty for no pause. During a pause no attempt starts, and running
    attempts continue."""
    standby_pods: bool = False
    """Whether to keep the standby pods that PodTemplates ask for. It needs the rights to patch Jobs and pods."""
    standby_max_age_seconds: Annotated[float, Field(ge=60, le=2_592_000)] = 3600
    """How long a standby pod waits at most until it is replaced."""
    standby_key_file: str = ""
    """A file with at least 32 characters that only the operator can read. The secrets of standby pods are derived from
    it. Empty: each replica makes a key of its own when it starts, and a new leader replaces the standby pods of the one
    before."""
    job_retention_seconds: Annotated[float, Field(ge=0)] = 60
    """How long a Job is kept for inspection after its attempt has ended."""
    failed_job_retention_seconds: Annotated[float, Field(ge=0)] = 3600
    """How long the Job of a failed attempt is kept, so that people can read the pod's output and describe the pod. If
    `JOB_RETENTION_SECONDS` is longer, that time applies."""
    failed_jobs_kept: Annotated[int, Field(ge=0)] = 50
    """The most Jobs of failed attempts that are kept in each namespace after `JOB_RETENTION_SECONDS`; the oldest are
    deleted first."""
    calls_per_second: Annotated[float, Field(gt=0)] = 100
    """The most calls to the API server per second, on average."""
    calls_at_once: Annotated[float, Field(ge=1)] = 200
    """The most calls at once after a quiet period."""
    status_writes_per_second: Annotated[float, Field(gt=0)] = 5
    """The most status writes per second, on average, that only say that an attempt started or runs. Obstacles and ends
    are written at once."""
    status_writes_at_once: Annotated[float, Field(ge=1)] = 50
    """The most of these status writes at once after a quiet period."""
    status_writes_within_seconds: Annotated[float, Field(gt=0)] = 60
    """The longest delay of these status writes."""
    events_per_second: Annotated[float, Field(ge=0)] = 5
    """The most Kubernetes Events about SpokeJobs per second, for each namespace and type (Normal, Warning), on average.
    All namespaces together may send ten times as many. Further Events are dropped and counted. Events do not count
    towards `CALLS_PER_SECOND`. 0 sends none."""
    events_at_once: Annotated[float, Field(ge=1)] = 50
    """The most such Events of each namespace and type at once after a quiet period."""
    lease: Annotated[str, Field(pattern=r"^([a-z0-9][-a-z0-9]*/[a-z0-9][-a-z0-9.]*)?$")] = ""
    """Namespace and name of the Lease for leader election; empty for a single replica."""
    identity: Annotated[str, Field(max_length=200)] = ""
    """This replica's name in the Lease; empty for the host's name with a random suffix."""
    lease_seconds: Annotated[float, Field(gt=0)] = 15
    """How long a leader that does not renew the Lease keeps it."""
    lease_renew_within_seconds: Annotated[float, Field(gt=0)] = 10
    """How long a leader that can't renew still leads; shorter than `LEASE_SECONDS`."""
    lease_retry_seconds: Annotated[float, Field(gt=0)] = 2
    """How often the Lease is read or renewed; shorter than `LEASE_RENEW_WITHIN_SECONDS`."""
    publish_seconds: Annotated[float, Field(ge=1)] = 10
    """The shortest interval between two writes of `spoke-operator-state`, the ConfigMap in each namespace with limits,
    counts and the order of turns."""
    workers: Annotated[int, Field(ge=1, le=256)] = 16
    """The number of SpokeJobs that are handled at the same time."""
    request_timeout_seconds: Annotated[float, Field(gt=0)] = 10
    """The timeout of a call to the API server."""
    compare_seconds: Annotated[float, Field(gt=0)] = 30
    """How often unfinished SpokeJobs are listed, in case an event was lost."""
    full_compare_seconds: Annotated[float, Field(gt=0)] = 600
    """How often all objects are listed."""
    unhealthy_after_seconds: Annotated[float, Field(gt=0)] = 120
    """After this time without an event or a comparison, `/healthz` fails."""
    health_host: str = ""
    """The address that serves probes and metrics; empty for all, IPv4 and IPv6."""
    health_port: Annotated[int, Field(ge=0, le=65535)] = 8080
    """The port of probes and metrics; 0 for any free port."""
    metric_labels: Annotated[tuple[Literal["type", "queue"], ...], NoDecode] = ()
    """The labels of the metrics of SpokeJobs besides `namespace`: `type`, `queue` or both, separated by commas."""
    metric_label_limit: Annotated[int, Field(ge=1, le=10_000)] = 50
    """The most combinations of these labels' values in each namespace. SpokeJobs beyond them are counted under
    `other`."""
    traces: Literal["none", "otel"] = "none"
    """Whether the operator makes OpenTelemetry spans of attempts whose jobs were dispatched in a trace: their
    admission, and their pods' way to a node, start and run. OpenTelemetry's own variables say where they are sent."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """The lowest level that is logged."""
    log_format: Literal["json", "plain"] = "json"
    """One JSON object per line, or plain text."""

    @property
    def limits(self) -> Limits:
        """The limits that admission applies."""
        return Limits(
            running=self.max_running,
            in_namespace=self.max_running_in_namespace,
            in_queue=self.max_running_in_queue,
            for_organization=self.max_running_for_organization,
            unfinished=self.max_unfinished_in_namespace,
            paused=Pause(f"{PREFIX}PAUSED", self.paused) if self.paused else None,
        )

    @property
    def retention(self) -> Retention:
        """How long ended objects are kept."""
        return Retention(
            job=timedelta(seconds=self.job_retention_seconds),
            failed_job=timedelta(seconds=self.failed_job_retention_seconds),
            failed_jobs=self.failed_jobs_kept,
        )

    @property
    def standby_max_age(self) -> timedelta:
        """How long a standby pod waits at most until it is replaced."""
        return timedelta(seconds=self.standby_max_age_seconds)

    @property
    def lease_times(self) -> LeaseTimes:
        """The durations of leader election."""
        return LeaseTimes(self.lease_seconds, self.lease_renew_within_seconds, self.lease_retry_seconds)

    @model_validator(mode="before")
    @classmethod
    def _take_old_names(cls, given: dict[str, Any]) -> dict[str, Any]:
        old_ones = {
            new.lower(): os.environ[f"{PREFIX}{old}"] for old, new in RENAMED.items() if f"{PREFIX}{old}" in os.environ
        }
        return old_ones | given

    @model_validator(mode="after")
    def _check_lease_times(self) -> Settings:
        self.lease_times.check()
        return self

    @model_validator(mode="after")
    def _compares_often_enough(self) -> Settings:
        if self.unhealthy_after_seconds < 2 * self.compare_seconds:
            raise ValueError(
                f"SPOKE_OPERATOR_UNHEALTHY_AFTER_SECONDS ({self.unhealthy_after_seconds:g}) must be at least twice "
                f"SPOKE_OPERATOR_COMPARE_SECONDS ({self.compare_seconds:g}): "
                "without events only comparisons show that the API server answers, and each takes a while"
            )
        return self

    @field_validator("namespaces", "metric_labels", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(name.strip() for name in value.split(",") if name.strip())
        return value
