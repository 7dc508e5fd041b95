"""The statements that a test's own thread sends to a database."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine, event


@contextmanager
def sent_statements(engine: Engine) -> Iterator[list[str]]:
    """Note the texts of the statements that are sent meanwhile."""
    sent: list[str] = []
    caller = threading.get_ident()

    def note(*given: object) -> None:
        if threading.get_ident() == caller:  # another thread sends the notifications of earlier changes
            sent.append(str(given[2]))

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(engine, "before_cursor_execute", note)
