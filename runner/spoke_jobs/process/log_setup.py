"""Log lines of our processes: plain text on standard error, with the time in UTC."""

from __future__ import annotations

import logging
import os
import time


def configure_logging(level: str | None = None) -> None:
    """Log to standard error, at the level given, or that of ``SPOKE_LOG_LEVEL``, or INFO."""
    formatter = logging.Formatter("%(asctime)s.%(msecs)03dZ %(levelname)-7s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    logging.basicConfig(
        level=(level or os.environ.get("SPOKE_LOG_LEVEL") or "INFO").upper(), handlers=[handler], force=True
    )
    for noisy in ("alembic", "httpx", "httpcore", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
