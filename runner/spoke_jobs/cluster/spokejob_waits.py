"""Read what the SpokeJobs of the namespace wait for, for `why` without an id. This needs `list` on SpokeJobs."""

from __future__ import annotations

from collections import Counter
from datetime import datetime

from spoke_jobs.cluster.cluster_client import SpokeJobClient, Timeouts
from spoke_jobs.cluster.cluster_view import SpokeJobWaits, WaitingSpokeJob, busy_nodes, unfinished_since, waits_of
from spoke_jobs.errors import ConfigurationError
from spoke_jobs.shared.api_errors import ApiError

LISTED = 5_000
"""The most SpokeJobs that are read."""
_TIMEOUTS = Timeouts(connect=3.0, read=10.0)


def read_spokejob_waits(namespace: str) -> SpokeJobWaits:
    """Read the SpokeJobs that this account may list."""
    try:
        api = SpokeJobClient.connect(namespace, _TIMEOUTS)
    except ConfigurationError as error:
        return SpokeJobWaits(problem=str(error))
    try:
        found: list[WaitingSpokeJob] = []
        unfinished: list[datetime] = []
        nodes = Counter[str]()
        read = 0
        for page in api.pages():
            found += waits_of(page.items)
            unfinished += unfinished_since(page.items)
            nodes.update(busy_nodes(page.items))
            read += len(page.items)
            if read >= LISTED:
                break
        busiest = tuple(sorted(nodes.items(), key=lambda node: (-node[1], node[0])))
        oldest = min(unfinished, default=None)
        return SpokeJobWaits(tuple(found), more=read >= LISTED, oldest_unfinished=oldest, nodes=busiest)
    except ApiError as error:
        return SpokeJobWaits(problem=str(error))
    finally:
        api.close()
