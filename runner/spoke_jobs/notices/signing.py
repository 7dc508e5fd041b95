"""Sign what is sent to a webhook, as Standard Webhooks (standardwebhooks.com) describe it. Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

from spoke_jobs.errors import ConfigurationError

ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"
"""The names of the headers."""
_PREFIX = "whsec_"
_SHORTEST_BYTES, _LONGEST_BYTES = 24, 64


def signing_key(text: str) -> bytes:
    """Decode a key.

    :raises ConfigurationError: if it cannot be used. The message does not contain it.
    """
    try:
        key = base64.b64decode(text.strip().removeprefix(_PREFIX), validate=True)
    except (ValueError, binascii.Error):
        key = b""
    if not _SHORTEST_BYTES <= len(key) <= _LONGEST_BYTES:
        raise ConfigurationError(
            f"SPOKE_NOTIFY_WEBHOOK_KEY is not base64 of {_SHORTEST_BYTES} to {_LONGEST_BYTES} bytes: "
            "`openssl rand -base64 32` makes a key"
        )
    return key


def signed_headers(key: bytes, notice_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the headers that name a notice and prove who sent it, and when.

    :param timestamp: seconds since 1970.
    """
    signed = b".".join([notice_id.encode(), str(timestamp).encode(), body])
    signature = base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
    return {ID: notice_id, TIMESTAMP: str(timestamp), SIGNATURE: f"v1,{signature}"}
