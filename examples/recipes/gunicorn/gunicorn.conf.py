"""Two workers, forked from a process that has imported the application."""

from __future__ import annotations

from typing import Any

wsgi_app = "app:application"
workers = 2
preload_app = True


def post_fork(_server: Any, _worker: Any) -> None:
    """The application's own connections are its parent's: let go of them, without closing them there."""
    from database import engine

    engine.dispose(close=False)
