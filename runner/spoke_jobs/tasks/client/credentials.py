"""A dispatcher's credentials for the task server: the shared key, or its service account's token."""

from __future__ import annotations

from typing import Protocol

from spoke_jobs.errors import ConfigurationError
from spoke_jobs.shared.secret_file import Secret, TokenFile
from spoke_jobs.tasks.protocol.messages import CurrentKey


class Credentials(Protocol):
    """The source of the ``Authorization`` header."""

    def show(self) -> str:
        """Return the header's value."""

    def refused(self) -> str:
        """Return what to check if the server refuses the header, for the log."""


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


class ProjectedToken:
    """The service account's token, in a file that the kubelet renews.

    :raises ConfigurationError: if the file cannot be read at start-up.
    """

    def __init__(self, path: str) -> None:
        try:
            self._file = TokenFile(path)
        except (OSError, ValueError) as error:
            why = "it is no text" if isinstance(error, UnicodeDecodeError) else getattr(error, "strerror", error)
            raise ConfigurationError(
                f"SPOKE_TASKS_TOKEN_FILE={path} can't be read ({why}): mount a projected token of audience "
                "spoke-tasks there, or set SPOKE_TASKS_KEY"
            ) from None

    def show(self) -> str:
        """See :class:`Credentials`."""
        return f"Bearer {self._file.read()}"

    def refused(self) -> str:
        """See :class:`Credentials`."""
        return (
            "it refuses the token; the token's audience must be spoke-tasks, and the task server's SPOKE_TASKS_CALLERS "
            "must name this process's service account"
        )


def credentials_of(key: Secret, token_file: str) -> Credentials:
    """Return the credentials: the token of ``token_file`` if that is set, else the key.

    :raises ConfigurationError: if they cannot be used.
    """
    return ProjectedToken(token_file) if token_file else SharedKey(key)
