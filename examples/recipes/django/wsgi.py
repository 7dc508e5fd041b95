"""The WSGI application."""

from __future__ import annotations

import os

from django.core.wsgi import get_wsgi_application

from spoke_jobs import configure

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")
application = get_wsgi_application()
import jobs  # noqa: E402, F401 (after Django is set up: the jobs are declared before the first request)

configure()  # refuse to start with unusable settings. Django imports urls.py only at the first request
