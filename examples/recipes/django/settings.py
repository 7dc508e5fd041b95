"""Django's settings. Its database is the ledger's."""

from __future__ import annotations

import os

from sqlalchemy.engine import make_url

_url = make_url(os.environ["SPOKE_DATABASE_URL"])
_sqlite = _url.get_backend_name() == "sqlite"

SECRET_KEY = os.environ.get("SECRET_KEY", "for this recipe only: 32 characters or more")
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "testserver"]
ROOT_URLCONF = "urls"
INSTALLED_APPS = ["contacts"]
MIDDLEWARE = ["django.contrib.sessions.middleware.SessionMiddleware"]
SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3" if _sqlite else "django.db.backends.postgresql",
        "NAME": _url.database,
        "USER": _url.username or "",
        "PASSWORD": _url.password or "",
        "HOST": _url.host or "",
        "PORT": _url.port or "",
        # IMMEDIATE: a transaction that reads first must not fail when it writes. WAL: readers are not blocked.
        "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 10, "init_command": "PRAGMA journal_mode = WAL"}
        if _sqlite
        else {},
    }
}
