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
        Field(ge=1, description="The most attempts that run at a time, in all namespaces together."),
    ] = None
    max_running_in_namespace: Annotated[int | None, Field(ge=1, description="The most in each namespace.")] = None
    max_running_in_queue: Annotated[
        int | None,
        Field(ge=1, description="The most in each queue of each namespace; jobs without a queue don't count."),
    ] = None
    max_running_for_organization: Annotated[
        int | None,
        Field(ge=1, description="The most for each organization of each namespace; jobs without one don't count."),
    ] = None
    job_retention_seconds: Annotated[
        float, Field(ge=0, description="How long a Job is kept after its attempt has ended, for inspection.")
    ] = 60
    calls_per_second: Annotated[
        float, Field(gt=0, description="The most calls to the API server a second, in the long run.")
    ] = 100
    calls_at_once: Annotated[float, Field(ge=1, description="The most calls at once after a quiet time.")] = 200
    news_per_second: Annotated[
        float,
        Field(
            gt=0,
            description="The most statuses a second, in the long run, that only say that an attempt has started or "
            "runs. Obstacles and ends are written at once.",
        ),
    ] = 5
    news_at_once: Annotated[float, Field(ge=1, description="The most such statuses at once after a quiet time.")] = 50
    news_within_seconds: Annotated[float, Field(gt=0, description="The longest delay of such a status.")] = 60
    lease: Annotated[
        str,
        Field(
            pattern=r"^([a-z0-9][-a-z0-9]*/[a-z0-9][-a-z0-9.]*)?$",
            description="Namespace and name of the Lease that says which replica leads; empty for a single replica.",
        ),
    ] = ""
    identity: Annotated[
        str,
        Field(
            max_length=200,
            description="This replica's name in the Lease; empty for the host's name with a random suffix.",
        ),
    ] = ""
    lease_seconds: Annotated[float, Field(gt=0, description="How long a silent leader keeps the lead.")] = 15
    lease_renew_within_seconds: Annotated[
        float, Field(gt=0, description="How long a leader that can't renew goes on; shorter than `LEASE_SECONDS`.")
    ] = 10
    lease_retry_seconds: Annotated[
        float, Field(gt=0, description="How often the Lease is read or renewed; shorter again.")
    ] = 2
    publish_seconds: Annotated[
        float,
        Field(
            ge=1,
            description="How often at most the leader writes limits, counts and the order of turns to a ConfigMap of "
            "each namespace, `spoke-operator-state`.",
        ),
    ] = 10
    workers: Annotated[
        int, Field(ge=1, le=256, description="The number of SpokeJobs that are handled at the same time.")
    ] = 16
    request_timeout_seconds: Annotated[float, Field(gt=0, description="The timeout of a call to the API server.")] = 10
    compare_seconds: Annotated[
        float, Field(gt=0, description="How often unfinished SpokeJobs are listed, to make up for lost events.")
    ] = 30
    full_compare_seconds: Annotated[float, Field(gt=0, description="How often everything is listed.")] = 600
    deaf_after_seconds: Annotated[
        float, Field(gt=0, description="`/healthz` fails after so long without an event or a comparison.")
    ] = 120
    health_host: Annotated[
        str, Field(description="The address that serves probes and metrics; empty for all, IPv4 and IPv6.")
    ] = ""
    health_port: Annotated[
        int, Field(ge=0, le=65535, description="The port of probes and metrics; 0 for any free one.")
    ] = 8080
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR"], Field(description="The lowest level logged.")
    ] = "INFO"
    log_format: Annotated[Literal["json", "plain"], Field(description="One JSON object a line, or plain text.")] = (
        "json"
    )

    @property
    def limits(self) -> Limits:
        """The limits on running attempts."""
        return Limits(
            running=self.max_running,
            in_namespace=self.max_running_in_namespace,
            in_queue=self.max_running_in_queue,
            for_organization=self.max_running_for_organization,
        )

    @property
    def lease_times(self) -> LeaseTimes:
        """How long a lead lasts."""
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
                f"SPOKE_OPERATOR_COMPARE_SECONDS ({self.compare_seconds:g}): a quiet cluster is "
                "heard of by comparisons alone, and each takes a while"
            )
        return self

    @field_validator("namespaces", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(name.strip() for name in value.split(",") if name.strip())
        return value
