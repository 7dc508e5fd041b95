"""How many unknown tokens the API server is asked about: per peer, and in all. Pure.

Without limits, whoever can reach the port could make the API server review forged tokens as fast as they can be sent.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from spoke_jobs.shared.token_bucket import TokenBucket

PEER_PER_SECOND = 2.0
PEER_BURST = 20.0
"""A pod shows one token, and another one about once an hour. Pods behind one proxy share a peer."""
TOTAL_PER_SECOND = 50.0
TOTAL_BURST = 200.0
"""After a rollout, each replica sees a new token from every pod."""
_PEERS_LIMIT = 4_096


class ReviewLimits:
    """Token buckets: one for each peer, and one for all."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._total = TokenBucket(TOTAL_PER_SECOND, TOTAL_BURST, clock)
        self._peers: OrderedDict[str, TokenBucket] = OrderedDict()

    def allow(self, peer: str) -> bool:
        """Return whether an unknown token of this peer may be reviewed now."""
        bucket = self._peers.get(peer)
        if bucket is None:
            bucket = self._peers[peer] = TokenBucket(PEER_PER_SECOND, PEER_BURST, self._clock)
        self._peers.move_to_end(peer)
        if len(self._peers) > _PEERS_LIMIT:
            self._peers.popitem(last=False)
        return _take(bucket) and _take(self._total)


def _take(bucket: TokenBucket) -> bool:
    if bucket.take() == 0:
        return True
    bucket.put_back()
    return False
