"""What a claim asks for: one value that all statements of claims take. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

from spoke_jobs.ledger.claims.claim_cursor import Place
from spoke_jobs.model import ANY_CLAIM, ClaimFilter


class SearchedJobs(NamedTuple):
    """The jobs that a worker may claim. What helps its next claim is remembered for them."""

    runner: str
    types: tuple[str, ...]
    only: ClaimFilter


@dataclass(frozen=True, slots=True)
class ClaimRequest:
    """Which jobs to claim, how many, and for whom."""

    runner: str
    types: Collection[str]
    """Names, and prefixes like ``ingest.*``."""
    worker: str
    lease_seconds: float
    limit: int = 1
    """How many jobs to claim at most."""
    only: ClaimFilter = ANY_CLAIM
    """Which of these jobs the worker takes."""
    place: Place | None = None
    """Skip the jobs before this position in the order of claims; None: skip none."""
    turns: tuple[int, ...] = ()
    """If given, claim only these jobs, in this order. It is that of turns (:mod:`.claim_turns`)."""

    @property
    def jobs(self) -> SearchedJobs:
        """Return which jobs may be claimed."""
        return SearchedJobs(self.runner, tuple(self.types), self.only)

    @property
    def filtered(self) -> bool:
        """Whether the worker takes only a part of the jobs of its types."""
        return self.only != ANY_CLAIM

    def search(self, limit: int, turns: tuple[int, ...]) -> Self:
        """Return the request of one search: for so many jobs, or for so many of those whose turn it is."""
        return replace(self, limit=limit, turns=turns)

    def without_queue_locks(self) -> Self:
        """Return the request without the jobs that lock their queue."""
        return replace(self, only=replace(self.only, queue_locks=False))

    def starting_at(self, place: Place | None) -> Self:
        """Return the request of a search from a position."""
        return self if place is None else replace(self, place=place)
