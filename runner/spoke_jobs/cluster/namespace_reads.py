"""Read the operator's published state and the PodTemplates of the namespace, for the dashboard.

This needs `get` on the operator's ConfigMap, and `list` on PodTemplates.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import TypeVar

from spoke_jobs.cluster.cluster_client import SpokeJobClient, Timeouts
from spoke_jobs.cluster.namespace_view import NamespaceView, TemplateView, template_view
from spoke_jobs.contract.custom_resources.kinds import Kind
from spoke_jobs.contract.names import STATE_CONFIGMAP
from spoke_jobs.contract.operator_state import Publication
from spoke_jobs.errors import ConfigurationError
from spoke_jobs.shared.api_errors import ApiError, ApiUnavailable

TEMPLATES = 200
"""The most PodTemplates that are read."""
_TIMEOUTS = Timeouts(connect=3.0, read=5.0)

R = TypeVar("R")


def read_namespace_view(namespace: str) -> NamespaceView:
    """Read what this account may read."""
    try:
        api = SpokeJobClient.connect(namespace, _TIMEOUTS)
    except ConfigurationError as error:
        return NamespaceView(namespace, problem=str(error))
    try:
        return _found(api)
    except ApiError as error:
        return NamespaceView(namespace, problem=str(error))
    finally:
        api.close()


def _found(api: SpokeJobClient) -> NamespaceView:
    data, state_problem = _readable(lambda: api.config_map(STATE_CONFIGMAP), None)
    found, templates_problem = _readable(
        lambda: [template_view(body) for body in islice(api.list_objects(Kind.TEMPLATE, {}), TEMPLATES + 1)],
        list[TemplateView](),
    )
    return NamespaceView(
        api.namespace,
        Publication.read(data),
        tuple(sorted(found[:TEMPLATES], key=lambda each: each.name)),
        more_templates=len(found) > TEMPLATES,
        state_problem=state_problem,
        templates_problem=templates_problem,
    )


def _readable(read: Callable[[], R], otherwise: R) -> tuple[R, str]:
    """Return what was read, or why it could not be.

    :raises ApiUnavailable: if any other call would fail, too.
    """
    try:
        return read(), ""
    except ApiUnavailable:
        raise
    except ApiError as error:
        return otherwise, str(error)
