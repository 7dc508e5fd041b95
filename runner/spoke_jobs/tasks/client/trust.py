"""The CA certificates that verify the task deployment. A renewed file is read without a restart."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable

from spoke_jobs.errors import ConfigurationError
from spoke_jobs.shared.secret_file import Version, version_of

LOOK_EVERY_SECONDS = 10.0


class Trust:
    """The context of the dispatcher's connections.

    :param ca_file: CA certificates in PEM form; empty for the system's.
    :raises ConfigurationError: if the file cannot be used.
    """

    def __init__(self, ca_file: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._file = ca_file
        self._clock = clock
        self._looked_at = clock()
        try:
            self._modified = self._look()
            self.context = ssl.create_default_context(cafile=ca_file or None)
        except OSError as error:  # an ssl.SSLError is one
            raise ConfigurationError(
                f"SPOKE_TASKS_CA_FILE={ca_file} can't be used ({error}): name a PEM file with the CA certificates that "
                "verify the task deployment"
            ) from None
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2

    def refresh(self) -> None:
        """Add the certificates of a file that has changed. Those that it had before stay trusted in this process."""
        now = self._clock()
        if not self._file or now - self._looked_at < LOOK_EVERY_SECONDS:
            return
        self._looked_at = now
        try:
            modified = self._look()
            if modified != self._modified:
                self.context.load_verify_locations(self._file)
                self._modified = modified
        except OSError:  # it is being replaced: look again later
            pass

    def _look(self) -> Version | None:
        return version_of(self._file) if self._file else None
