"""Two ASGI applications: the dashboard, and the progress of single jobs for an application's own users.

``app(authorize=...)`` is the dashboard. It shows jobs to people, and cancels and retries them. It shows nothing to
anybody for whom ``authorize`` returns no :class:`Viewer`. ``progress()`` shows how far a job is to whoever has a token
of ``JobRequest.progress_token()``.
"""

from __future__ import annotations

from spoke_jobs.web.authorizers import Authorizer, LocalOnly, ReadOnly, TokenSignIn, TrustedProxy
from spoke_jobs.web.dashboard import app
from spoke_jobs.web.progress_app import progress
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
    "progress",
]
