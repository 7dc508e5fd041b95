"""Two ASGI applications: the dashboard, and the progress of single jobs for an application's own users.

``app(authorize=...)`` is the dashboard. It shows jobs to people, and cancels and retries them. It shows nothing to
anybody for whom ``authorize`` returns no :class:`Viewer`. ``progress()`` shows how far a job is to whoever has a token
of ``JobRequest.progress_token()``.

A page has its reads and its route in `pages.py`, its values in `overview_views.py`, `job_views.py` or a module
`*_views.py`, and its text in `templates/`; add it to those that tests/contract/dashboard.py tries without a session,
and to the plan of `make bench-web`. JSON: `api_reads.py`, `api_views.py`, `api_document.py`. Live pages:
`change_stream.py`, `static/live.js`. Many jobs at once: `bulk_pages.py`. Who may do what: `authorizers.py`,
`viewer.py`, `signed_sessions.py`, `guard.py`, and with OpenID Connect `oidc_sign_in.py`, `oidc_provider.py`,
`id_tokens.py`, `claim_rules.py`. Progress for an application's users: `progress_app.py`.
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
