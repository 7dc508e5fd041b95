"""The module that SPOKE_APP names. It sets Django up, which the models need, and then imports the jobs."""

from __future__ import annotations

import os
from importlib import import_module

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")
django.setup()
import_module("jobs")
