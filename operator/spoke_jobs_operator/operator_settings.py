"""The operator's settings: environment variables with the prefix ``SPOKE_OPERATOR_``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from .core.admit import Limits
from .core.election import LeaseTimes


class Settings(BaseSettings):
    """How the operator runs. Times are in seconds."""

    model_config = SettingsConfigDict(env_prefix="SPOKE_OPERATOR_", frozen=True)

    namespaces: Annotated[
        tuple[str, ...], NoDecode, Field(description="Namespaces to serve, separated by commas; empty for all.")
    ] = ()
    max_running: Annotated[
        int | None,
        Field(ge=1, description="The most attempts that run at a time in all namespaces together."),
    ] = None
    max_running_in_namespace: Annotated[
        int | None, Field(ge=1, description="The most attempts that run at a time in each namespace.")
    ] = None
    max_running_in_queue: Annotated[
        int | None,
        Field(
            ge=1,
            description="The most attempts that run at a time in each queue of a namespace. Jobs without a queue don't "
            "count.",
        ),
    ] = None
    max_running_for_organization: Annotated[
        int | None,
        Field(
            ge=1,
            description="The most attempts that run at a time for each organization of a namespace. Jobs without one "
            "don't count.",
        ),
    ] = None
    job_retention_seconds: Annotated[
        float, Field(ge=0, description="How long a Job is kept for inspection after its attempt has ended.")
    ] = 60
    calls_per_second: Annotated[
        float, Field(gt=0, description="The most calls to the API server per second, on average.")
    ] = 100
    calls_at_once: Annotated[float, Field(ge=1, description="The most calls at once after a quiet period.")] = 200
    news_per_second: Annotated[
        float,
        Field(
            gt=0,
            description="The most status writes per second, on average, that only say that an attempt started or "
            "runs. Obstacles and ends are written at once.",
        ),
    ] = 5
    news_at_once: Annotated[float, Field(ge=1, description="The most such writes at once after a quiet period.")] = 50
    news_within_seconds: Annotated[float, Field(gt=0, description="The longest delay of such a write.")] = 60
    lease: Annotated[
        str,
        Field(
            pattern=r"^([a-z0-9][-a-z0-9]*/[a-z0-9][-a-z0-9.]*)?$",
            description="Namespace and name of the Lease for leader election; empty for a single replica.",
        ),
    ] = ""
    identity: Annotated[
        str,
        Field(
            max_length=200,
            description="This replica's name in the Lease; empty for the host's name with a random suffix.",
        ),
    ] = ""
    lease_seconds: Annotated[
        float, Field(gt=0, description="How long a leader that does not renew the Lease keeps it.")
    ] = 15
    lease_renew_within_seconds: Annotated[
        float, Field(gt=0, description="How long a leader that can't renew still leads; shorter than `LEASE_SECONDS`.")
    ] = 10
    lease_retry_seconds: Annotated[
        float,
        Field(gt=0, description="How often the Lease is read or renewed; shorter than `LEASE_RENEW_WITHIN_SECONDS`."),
    ] = 2
    publish_seconds: Annotated[
        float,
        Field(
            ge=1,
            description="The shortest interval between two writes of `spoke-operator-state`, the ConfigMap in each "
            "namespace with limits, counts and the order of turns.",
        ),
    ] = 10
    workers: Annotated[
        int, Field(ge=1, le=256, description="The number of SpokeJobs that are handled at the same time.")
    ] = 16
    request_timeout_seconds: Annotated[float, Field(gt=0, description="The timeout of a call to the API server.")] = 10
    compare_seconds: Annotated[
        float, Field(gt=0, description="How often unfinished SpokeJobs are listed, in case an event was lost.")
    ] = 30
    full_compare_seconds: Annotated[float, Field(gt=0, description="How often all objects are listed.")] = 600
    deaf_after_seconds: Annotated[
        float, Field(gt=0, description="After this time without an event or a comparison, `/healthz` fails.")
    ] = 120
    health_host: Annotated[
        str, Field(description="The address that serves probes and metrics; empty for all, IPv4 and IPv6.")
    ] = ""
    health_port: Annotated[
        int, Field(ge=0, le=65535, description="The port of probes and metrics; 0 for any free port.")
    ] = 8080
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR"], Field(description="The lowest level that is logged.")
    ] = "INFO"
    log_format: Annotated[Literal["json", "plain"], Field(description="One JSON object per line, or plain text.")] = (
        "json"
    )

    @property
    def limits(self) -> Limits:
        """The limits that admission applies."""
        return Limits(
            running=self.max_running,
            in_namespace=self.max_running_in_namespace,
            in_queue=self.max_running_in_queue,
            for_organization=self.max_running_for_organization,
        )

    @property
    def lease_times(self) -> LeaseTimes:
        """The durations of leader election."""
        return LeaseTimes(self.lease_seconds, self.lease_renew_within_seconds, self.lease_retry_seconds)

    @model_validator(mode="after")
    def _check_lease_times(self) -> Settings:
        self.lease_times.check()
        return self

    @model_validator(mode="after")
    def _compares_often_enough(self) -> Settings:
        if self.deaf_after_seconds < 2 * self.compare_seconds:
            raise ValueError(
                f"SPOKE_OPERATOR_DEAF_AFTER_SECONDS ({self.deaf_after_seconds:g}) must be at least twice "
                f"SPOKE_OPERATOR_COMPARE_SECONDS ({self.compare_seconds:g}): "
                "without events only comparisons show that the API server answers, and each takes a while"
            )
        return self

    @field_validator("namespaces", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(name.strip() for name in value.split(",") if name.strip())
        return value
