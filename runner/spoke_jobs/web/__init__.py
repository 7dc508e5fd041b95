"""The dashboard: an ASGI application that shows jobs to people, and cancels and retries them.

``app(authorize=...)`` is the application. It shows nothing to anybody for whom ``authorize`` returns no
:class:`Viewer`.
"""

from __future__ import annotations

from spoke_jobs.web.authorizers import Authorizer, LocalOnly, ReadOnly, TokenSignIn, TrustedProxy
from spoke_jobs.web.dashboard import app
from spoke_jobs.web.viewer import ALL_ACTIONS, JobAction, Viewer

__all__ = [
    "ALL_ACTIONS",
    "Authorizer",
    "JobAction",
    "LocalOnly",
    "ReadOnly",
    "TokenSignIn",
    "TrustedProxy",
    "Viewer",
    "app",
]
