"""The operator's settings: environment variables with the prefix ``SPOKE_OPERATOR_``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from .core.admit import Limits
from .core.election import Terms


class Settings(BaseSettings):
    """How the operator runs. Times are in seconds."""

    model_config = SettingsConfigDict(env_prefix="SPOKE_OPERATOR_", frozen=True)

    namespaces: Annotated[
        tuple[str, ...], NoDecode, Field(description="Namespaces to serve, separated by commas; empty for all.")
    ] = ()
    max_running: Annotated[
        int | None,
        Field(ge=1, description="How many attempts may be under way at a time, in all namespaces served together."),
    ] = None
    max_running_in_namespace: Annotated[int | None, Field(ge=1, description="How many in each namespace.")] = None
    max_running_in_queue: Annotated[
        int | None,
        Field(ge=1, description="How many in each queue of each namespace; jobs without a queue don't count."),
    ] = None
    max_running_for_organization: Annotated[
        int | None,
        Field(ge=1, description="How many for each organisation of each namespace; jobs without one don't count."),
    ] = None
    job_retention_seconds: Annotated[
        float, Field(ge=0, description="How long a Job stays after its attempt's end, to be looked at.")
    ] = 60
    calls_per_second: Annotated[
        float, Field(gt=0, description="How many calls of the API server may be made a second, in the long run.")
    ] = 100
    calls_at_once: Annotated[float, Field(ge=1, description="How many may be made at once after a quiet time.")] = 200
    news_per_second: Annotated[
        float,
        Field(
            gt=0,
            description="How many statuses that only say that an attempt has begun, or runs, are written a second, in "
            "the long run. What is in its way, and how it ends, is written at once.",
        ),
    ] = 5
    news_at_once: Annotated[
        float, Field(ge=1, description="How many of those may be written at once after a quiet time.")
    ] = 50
    news_within_seconds: Annotated[float, Field(gt=0, description="How long such a status waits at most.")] = 60
    lease: Annotated[
        str,
        Field(
            pattern=r"^([a-z0-9][-a-z0-9]*/[a-z0-9][-a-z0-9.]*)?$",
            description="Namespace and name of the Lease that says which replica leads; empty: there is but one.",
        ),
    ] = ""
    identity: Annotated[
        str, Field(max_length=200, description="This replica's name in the Lease; empty for the host's, made unique.")
    ] = ""
    lease_seconds: Annotated[float, Field(gt=0, description="How long a silent leader is left its lead.")] = 15
    lease_renew_within_seconds: Annotated[
        float, Field(gt=0, description="How long a leader that can't renew goes on; less than that.")
    ] = 10
    lease_retry_seconds: Annotated[
        float, Field(gt=0, description="How often the Lease is looked at, or renewed; less again.")
    ] = 2
    publish_seconds: Annotated[
        float,
        Field(
            ge=1,
            description="How often at most the leader writes limits, counts and the order of turns to a ConfigMap of "
            "each namespace, `spoke-operator-state`.",
        ),
    ] = 10
    workers: Annotated[int, Field(ge=1, le=256, description="How many SpokeJobs are handled at the same time.")] = 16
    request_timeout_seconds: Annotated[
        float, Field(gt=0, description="How long one call of the API server may take.")
    ] = 10
    compare_seconds: Annotated[
        float, Field(gt=0, description="How often unfinished SpokeJobs are listed, to make up for lost events.")
    ] = 30
    full_compare_seconds: Annotated[float, Field(gt=0, description="How often everything is listed.")] = 600
    deaf_after_seconds: Annotated[
        float, Field(gt=0, description="Health fails when neither an event nor a comparison came for so long.")
    ] = 120
    health_host: Annotated[
        str, Field(description="The address that health and metrics are served at; empty for all, of IPv4 and IPv6.")
    ] = ""
    health_port: Annotated[int, Field(ge=0, le=65535, description="Its port; 0 for any that is free.")] = 8080
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR"], Field(description="The lowest level logged.")
    ] = "INFO"
    log_format: Annotated[Literal["json", "plain"], Field(description="One JSON object a line, or plain text.")] = (
        "json"
    )

    @property
    def limits(self) -> Limits:
        """Those on running attempts."""
        return Limits(
            running=self.max_running,
            in_namespace=self.max_running_in_namespace,
            in_queue=self.max_running_in_queue,
            for_organization=self.max_running_for_organization,
        )

    @property
    def lease_terms(self) -> Terms:
        """How long a lead lasts."""
        return Terms(self.lease_seconds, self.lease_renew_within_seconds, self.lease_retry_seconds)

    @model_validator(mode="after")
    def _lease_terms_fit(self) -> Settings:
        self.lease_terms.check()
        return self

    @model_validator(mode="after")
    def _silence_is_told_from_quiet(self) -> Settings:
        if self.deaf_after_seconds < 2 * self.compare_seconds:
            raise ValueError(
                f"SPOKE_OPERATOR_DEAF_AFTER_SECONDS ({self.deaf_after_seconds:g}) must be at least twice "
                f"SPOKE_OPERATOR_COMPARE_SECONDS ({self.compare_seconds:g}): comparisons are all that is heard of a "
                "quiet cluster, and each takes its time"
            )
        return self

    @field_validator("namespaces", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(name.strip() for name in value.split(",") if name.strip())
        return value
