"""The operator's secret, from which the secrets of standby pods are derived."""

from __future__ import annotations

import secrets
from pathlib import Path

from spoke_jobs.contract.standby import KEY_BYTES


class UnusableKey(Exception):
    """The key's file can't be read, or holds too little."""


def standby_key(path: str) -> bytes:
    """Read the key; without a file, make one that only this process has.

    :raises UnusableKey: if the file can't be used.
    """
    if not path:
        return secrets.token_bytes(KEY_BYTES)
    name = f"SPOKE_OPERATOR_STANDBY_KEY_FILE={path}"
    try:
        key = Path(path).read_bytes().strip()
    except OSError as error:
        raise UnusableKey(f"{name} can't be read: {error.strerror}") from None
    if len(key) < KEY_BYTES:
        raise UnusableKey(
            f"{name} holds {len(key)} bytes: at least {KEY_BYTES} are needed, `openssl rand -hex 32` makes some"
        )
    return key
