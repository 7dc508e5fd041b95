"""The time zone of the person at the browser. A script of the pages stores its name in a cookie."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, tzinfo
from zoneinfo import ZoneInfo

COOKIE = "spoke-jobs-zone"
_LONGEST_NAME = 64


def reader_zone(cookies: Mapping[str, str]) -> tzinfo:
    """Return the zone that a request's cookies name; UTC if they name none that this machine knows."""
    name = cookies.get(COOKIE, "")
    if not name or len(name) > _LONGEST_NAME:
        return UTC
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, LookupError):  # a folder or a file that is no zone, a bad name, an unknown one
        return UTC
