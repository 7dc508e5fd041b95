"""Who may send tasks, by the settings."""

from __future__ import annotations

import os
from collections.abc import Mapping

from spoke_jobs.errors import ConfigurationError
from spoke_jobs.settings import Settings
from spoke_jobs.tasks.callers import Callers
from spoke_jobs.tasks.review import TokenReviews
from spoke_jobs.tasks.tokens import ServiceAccounts, accounts_of


def callers_of(settings: Settings, environment: Mapping[str, str] = os.environ) -> Callers:
    """The service accounts of SPOKE_TASKS_CALLERS, and whoever has SPOKE_TASKS_KEY.

    :raises ConfigurationError: if there is neither, or one can't be used.
    """
    key = settings.tasks_key.get_secret_value()
    accounts = accounts_of(settings.tasks_callers)
    if not accounts:
        if not key:
            raise ConfigurationError(
                "neither SPOKE_TASKS_CALLERS nor SPOKE_TASKS_KEY is set: name the service accounts that may send tasks "
                "(namespace/name, ...), or a key that dispatchers and task deployment share"
            )
        return Callers(key)
    url = settings.tasks_api_url or _api_of(environment)
    if not url:
        raise ConfigurationError(
            "SPOKE_TASKS_CALLERS is set, and this process isn't in a pod: name the API server that knows their tokens "
            "with SPOKE_TASKS_API_URL, or use SPOKE_TASKS_KEY"
        )
    reviews = TokenReviews(url, settings.tasks_api_ca_file, settings.tasks_api_token_file)
    return Callers(key, ServiceAccounts(accounts, reviews))


def _api_of(environment: Mapping[str, str]) -> str:
    host, port = environment.get("KUBERNETES_SERVICE_HOST", ""), environment.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        return ""
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
