"""The key that dispatchers and the task deployment share, as it is now."""

from __future__ import annotations

import logging

from spoke_jobs.errors import ConfigurationError
from spoke_jobs.shared.secret_file import Secret, value_of
from spoke_jobs.tasks.protocol.messages import usable_key

logger = logging.getLogger(__name__)


class CurrentKey:
    """The shared key, which may be in a file that changes.

    :raises ConfigurationError: if it cannot be used.
    """

    def __init__(self, key: Secret) -> None:
        self._source = key
        self._read = value_of(key)
        self._key = usable_key(self._read)

    def get(self) -> str:
        """Return the key. If a new one cannot be used, the last one stays in use."""
        found = value_of(self._source)
        if found != self._read:
            self._read = found
            try:
                self._key = usable_key(found)
                logger.info("the key for tasks has changed; using the new one")
            except ConfigurationError as error:
                logger.error("the new key for tasks can't be used; the last one stays in use: %s", error)  # noqa: TRY400
        return self._key
