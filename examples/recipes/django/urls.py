"""The application's addresses; the jobs are imported here, so that they are known before the first request."""

from __future__ import annotations

import jobs  # noqa: F401
from contacts import views
from django.urls import path

from spoke_jobs import configure

configure()  # a process that can't dispatch refuses to start

urlpatterns = [path("uploads", views.upload), path("contacts", views.contacts)]
