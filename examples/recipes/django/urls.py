"""The application's URLs. The jobs are imported here, so that they are declared before the first request."""

from __future__ import annotations

import jobs  # noqa: F401
from contacts import views
from django.urls import path

from spoke_jobs import configure

configure()  # refuse to start with unusable settings

urlpatterns = [path("uploads", views.upload), path("contacts", views.contacts)]
