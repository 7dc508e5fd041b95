"""Read the namespace for the dashboard and `why`: the operator's state, its PodTemplates, what its SpokeJobs wait for.

This needs `get` on the operator's ConfigMap, and `list` on PodTemplates and on SpokeJobs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from itertools import islice
from typing import TypeVar

from spoke_jobs.cluster.cluster_client import SpokeJobClient, Timeouts
from spoke_jobs.cluster.cluster_view import SpokeJobWaits, WaitingSpokeJob, busy_nodes, unfinished_since, waits_of
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
        with closing(SpokeJobClient.connect(namespace, _TIMEOUTS)) as api:
            return _found(api)
    except (ConfigurationError, ApiError) as error:
        return NamespaceView(namespace, problem=str(error))


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


LISTED = 5_000
"""The most SpokeJobs that are read."""
_LIST_TIMEOUTS = Timeouts(connect=3.0, read=10.0)


def read_spokejob_waits(namespace: str) -> SpokeJobWaits:
    """Read the SpokeJobs that this account may list."""
    found: list[WaitingSpokeJob] = []
    unfinished: list[datetime] = []
    nodes = Counter[str]()
    read = 0
    try:
        with closing(SpokeJobClient.connect(namespace, _LIST_TIMEOUTS)) as api:
            for page in api.pages():
                found += waits_of(page.items)
                unfinished += unfinished_since(page.items)
                nodes.update(busy_nodes(page.items))
                read += len(page.items)
                if read >= LISTED:
                    break
    except (ConfigurationError, ApiError) as error:
        return SpokeJobWaits(problem=str(error))
    busiest = tuple(sorted(nodes.items(), key=lambda node: (-node[1], node[0])))
    oldest = min(unfinished, default=None)
    return SpokeJobWaits(tuple(found), more=read >= LISTED, oldest_unfinished=oldest, nodes=busiest)
