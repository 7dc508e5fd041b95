"""The operator's settings: environment variables with the prefix ``SPOKE_OPERATOR_``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


class Settings(BaseSettings):
    """How the operator runs. Times are in seconds."""

    model_config = SettingsConfigDict(env_prefix="SPOKE_OPERATOR_", frozen=True)

    namespaces: Annotated[
        tuple[str, ...], NoDecode, Field(description="Namespaces to serve, separated by commas; empty for all.")
    ] = ()
    max_running: Annotated[int | None, Field(ge=1, description="How many attempts may be under way at a time.")] = None
    job_retention_seconds: Annotated[
        float, Field(ge=0, description="How long a Job stays after its attempt's end, to be looked at.")
    ] = 60
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
    health_host: Annotated[str, Field(description="The address that health and metrics are served at.")] = "0.0.0.0"  # noqa: S104 (a pod's own)
    health_port: Annotated[int, Field(ge=0, le=65535, description="Its port; 0 for any that is free.")] = 8080
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR"], Field(description="The lowest level logged.")
    ] = "INFO"
    log_format: Annotated[Literal["json", "plain"], Field(description="One JSON object a line, or plain text.")] = (
        "json"
    )

    @field_validator("namespaces", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(name.strip() for name in value.split(",") if name.strip())
        return value
