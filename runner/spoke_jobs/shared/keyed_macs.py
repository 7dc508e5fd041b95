"""Message authentication codes with keys that are derived from secrets, one key and one code for each purpose.

What is signed for one purpose is therefore of no use for another one, also if both have the same secret. Pure.
"""

from __future__ import annotations

import hashlib
import hmac

SHORTEST_SECRET = 32
"""The fewest characters of a secret: fewer could be guessed."""


def derived_key(secret: str, purpose: str) -> bytes:
    """Derive a key from a secret that may also be used for something else."""
    return hmac.digest(secret.encode(), f"spoke-jobs {purpose}".encode(), hashlib.sha256)


def keyed_mac(key: bytes, purpose: str, text: str) -> str:
    """Return the code of a text, 64 hexadecimal digits.

    :param purpose: what the text is, among those that the key signs.
    """
    return hmac.digest(key, f"{purpose}\0{text}".encode("utf-8", "replace"), hashlib.sha256).hex()


def is_keyed_mac(shown: str, key: bytes, purpose: str, text: str) -> bool:
    """Whether this is the code of a text. The time does not tell how much of it is right."""
    return hmac.compare_digest(shown.encode("utf-8", "replace"), keyed_mac(key, purpose, text).encode())
