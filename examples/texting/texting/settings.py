"""The application's settings, from the environment. The library reads its own (SPOKE_DATABASE_URL, JOB_RUNNER)."""

from __future__ import annotations

from functools import cache

from pydantic import AnyHttpUrl, Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class TextingSettings(BaseSettings):
    """Each field is read from the variable ``TEXTING_`` + its name in capitals. An empty variable counts as unset."""

    model_config = SettingsConfigDict(env_prefix="TEXTING_", env_ignore_empty=True, extra="ignore", frozen=True)

    carrier_url: AnyHttpUrl = AnyHttpUrl("http://127.0.0.1:8090")
    """The carrier's address."""
    carrier_timeout_seconds: float = Field(10.0, gt=0, le=120)
    """How long to wait for the carrier's answer. After that the result is unknown, and the message is sent again."""
    max_upload_bytes: int = Field(64 * 1024 * 1024, gt=0)
    """The largest contacts file that the web application accepts, in bytes as uploaded (compressed or not)."""


@cache
def settings() -> TextingSettings:
    """Return the process's settings, which are read once.

    :raises pydantic.ValidationError: naming each invalid variable.
    """
    return TextingSettings()
