"""The page that somebody asked for before signing in. Pure."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

from spoke_jobs.web.job_search import address

OVERVIEW = "/"
SIGN_IN = "/sign-in"
START = "/sign-in/start"
"""Leads to the identity provider."""
CALLBACK = "/sign-in/callback"
"""The identity provider sends browsers back to it."""
SIGNED_OUT = "/signed-out"
"""What people see who have signed out, if they sign in at an identity provider."""
FIELD = "next"
"""Its name in the address and in the form of the page *Sign in*."""
LIMIT = 2000
"""The longest address of a page, in characters."""
_SAFE = "!$&'()*+,;=:@/?%-._~[]"
_LOCAL = re.compile(r"/(?:[!-.0-\[\]-~][!-\[\]-~]*)?")
"""Printable ASCII characters after one slash, without a backslash, which browsers read as a slash."""


def wanted_page(path: str, query: bytes) -> str:
    """Write the address of a request, below the dashboard's root, so that :func:`local_page` accepts it.

    :param path: decoded.
    :param query: as it was sent.
    """
    text = quote(path, errors="replace")
    return local_page(f"{text}?{quote(query, safe=_SAFE)}" if query else text)


def sign_in_address(wanted: str) -> str:
    """Write the address of the page *Sign in*, which then leads to a page."""
    return address(SIGN_IN, **{FIELD: "" if wanted == OVERVIEW else wanted})


def local_page(text: str) -> str:
    """Return the address of a page below the dashboard's root, or the overview if the text is anything else.

    Whoever makes a link to the page *Sign in* chooses the text. It must not lead to another site, nor to another part
    of the application in which the dashboard is mounted.
    """
    if len(text) > LIMIT or _LOCAL.fullmatch(text) is None:
        return OVERVIEW
    segments = text.partition("#")[0].partition("?")[0].split("/")
    return OVERVIEW if any(unquote(segment) in (".", "..") for segment in segments) else text
