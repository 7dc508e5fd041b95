"""Which test opened a connection that the garbage collector finds open in a later one. A warning has its address."""

from __future__ import annotations

import os
import re
from typing import Any

from sqlalchemy import event
from sqlalchemy.pool import Pool

_ADDRESS = re.compile(r"<(?:psycopg|sqlite3)\.\w+ object at 0x([0-9a-f]+)>")
_opened: dict[int, str] = {}
"""By the connection's address, which the next one may have: the test that was running."""


def note_connections() -> None:
    """Note from now on which test opens each connection of each engine."""
    event.listen(Pool, "connect", _note)


def _note(connection: Any, _record: object) -> None:
    driver = getattr(connection, "driver_connection", connection)  # of an AsyncEngine, it is wrapped
    _opened[id(driver)] = os.environ.get("PYTEST_CURRENT_TEST", "no test")


def openers(text: str) -> list[str]:
    """Return the tests that opened the connections whose addresses a text has."""
    found = (_opened.get(int(address, 16)) for address in _ADDRESS.findall(text))
    return list(dict.fromkeys(test for test in found if test))
