"""A dispatcher's credentials for the task server: the shared key, or its service account's token."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Protocol

from spoke_jobs.errors import ConfigurationError
from spoke_jobs.shared.secret_file import Secret, stat_regular
from spoke_jobs.tasks.protocol.messages import CurrentKey

READ_EVERY_SECONDS = 10.0
"""How often a token's file is read. The kubelet renews the token."""


class Credentials(Protocol):
    """The source of the ``Authorization`` header."""

    def show(self) -> str:
        """Return the header's value."""

    def refused(self) -> str:
        """Note that the server refuses the header. Return what to check, for the log."""


class SharedKey:
    """The shared key.

    :raises ConfigurationError: if it cannot be sent in a header.
    """

    def __init__(self, key: Secret) -> None:
        self._key = CurrentKey(key)

    def show(self) -> str:
        """See :class:`Credentials`."""
        return f"Bearer {self._key.get()}"

    def refused(self) -> str:
        """See :class:`Credentials`."""
        return "it refuses the shared key; SPOKE_TASKS_KEY must be the same in this process and in the task deployment"


class TokenFile:
    """A projected token. Its file is read every :data:`READ_EVERY_SECONDS`.

    :raises ConfigurationError: if the file cannot be read at start-up.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._header = ""
        self._read_at = float("-inf")
        try:
            self._read()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is no text"
            raise ConfigurationError(
                f"SPOKE_TASKS_TOKEN_FILE={path} can't be read ({why}): mount a projected token of audience "
                "spoke-tasks there, or set SPOKE_TASKS_KEY"
            ) from None

    def show(self) -> str:
        """See :class:`Credentials`. If the file cannot be read now, the last token stays in use."""
        if time.monotonic() - self._read_at > READ_EVERY_SECONDS:
            try:
                self._read()
            except (OSError, UnicodeDecodeError):
                self._read_at = time.monotonic()
        return self._header

    def refused(self) -> str:
        """See :class:`Credentials`."""
        self._read_at = float("-inf")
        return (
            "it refuses the token; the token's audience must be spoke-tasks, and the task server's SPOKE_TASKS_CALLERS "
            "must name this process's service account"
        )

    def _read(self) -> None:
        stat_regular(self._path)
        token = self._path.read_text("utf-8").strip()
        self._read_at = time.monotonic()
        if token.isascii() and token.isprintable():
            self._header = f"Bearer {token}"


def credentials_of(key: Secret, token_file: str) -> Credentials:
    """Return the credentials: the token of ``token_file`` if that is set, else the key.

    :raises ConfigurationError: if they cannot be used.
    """
    return TokenFile(token_file) if token_file else SharedKey(key)
