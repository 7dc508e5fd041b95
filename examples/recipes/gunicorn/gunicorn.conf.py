"""Two workers, forked from a process that imported the application."""

from __future__ import annotations

from typing import Any

wsgi_app = "app:application"
workers = 2
preload_app = True


def post_fork(_server: Any, _worker: Any) -> None:
    """Drop the application's connections, which belong to the parent, without closing them."""
    from database import engine

    engine.dispose(close=False)
