"""The application's URLs."""

from __future__ import annotations

from contacts import views
from django.urls import path

urlpatterns = [path("uploads", views.upload), path("contacts", views.contacts)]
