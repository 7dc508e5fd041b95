"""The application's own settings, from the environment. The library reads its own (SPOKE_DATABASE_URL, JOB_RUNNER)."""

from __future__ import annotations

from functools import cache

from pydantic import AnyHttpUrl, Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class TextingSettings(BaseSettings):
    """Each field's variable is its name in capitals after ``TEXTING_``; an empty variable counts as unset."""

    model_config = SettingsConfigDict(env_prefix="TEXTING_", env_ignore_empty=True, extra="ignore", frozen=True)

    carrier_url: AnyHttpUrl = AnyHttpUrl("http://127.0.0.1:8090")
    """Where the carrier takes messages."""
    carrier_timeout_seconds: float = Field(10.0, gt=0, le=120)
    """How long to wait for the carrier's answer; after that nobody knows, and the message is tried again."""
    max_upload_bytes: int = Field(64 * 1024 * 1024, gt=0)
    """The largest contacts file that the web application takes, in bytes as sent."""


@cache
def settings() -> TextingSettings:
    """The process's settings, read once.

    :raises pydantic.ValidationError: naming each variable that can't be used.
    """
    return TextingSettings()
