"""What a dispatcher shows to the task server: the shared key, or its service account's token."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Protocol

from spoke_jobs.errors import ConfigurationError
from spoke_jobs.tasks.protocol.messages import usable_key

READ_EVERY_SECONDS = 10.0


class Credentials(Protocol):
    """What stands in the ``Authorization`` header."""

    def show(self) -> str:
        """The header's value now."""

    def refused(self) -> str:
        """The server refuses it; what a person should look at."""


class SharedKey:
    """The shared key.

    :raises ConfigurationError: if it can't be sent.
    """

    def __init__(self, key: str) -> None:
        self._header = f"Bearer {usable_key(key)}"

    def show(self) -> str:
        """See :class:`Credentials`."""
        return self._header

    def refused(self) -> str:
        """See :class:`Credentials`."""
        return "it refuses our key; SPOKE_TASKS_KEY must be the same here and there"


class TokenFile:
    """A projected token, read again every few seconds, since the kubelet renews it.

    :raises ConfigurationError: if there is none to begin with.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._header = ""
        self._read_at = float("-inf")
        try:
            self._read()
        except OSError as error:
            raise ConfigurationError(
                f"SPOKE_TASKS_TOKEN_FILE={path} can't be read ({error.strerror}): mount a projected token of audience "
                "spoke-tasks there, or set SPOKE_TASKS_KEY"
            ) from None

    def show(self) -> str:
        """See :class:`Credentials`. A file that is away for a moment leaves the last token in use."""
        if time.monotonic() - self._read_at > READ_EVERY_SECONDS:
            try:
                self._read()
            except OSError:
                self._read_at = time.monotonic()
        return self._header

    def refused(self) -> str:
        """See :class:`Credentials`."""
        self._read_at = float("-inf")
        return (
            "it refuses our token; it must be of audience spoke-tasks, and the task server's SPOKE_TASKS_CALLERS must "
            "name our service account"
        )

    def _read(self) -> None:
        token = self._path.read_text().strip()
        self._read_at = time.monotonic()
        if token.isascii() and token.isprintable():
            self._header = f"Bearer {token}"


def credentials_of(key: str, token_file: str) -> Credentials:
    """The token, if a file is named, else the key.

    :raises ConfigurationError: if neither can be used.
    """
    return TokenFile(token_file) if token_file else SharedKey(key)
