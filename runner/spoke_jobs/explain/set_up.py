"""What `check` found in the set-up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from spoke_jobs.explain.cluster_findings import Finding


@dataclass(frozen=True, slots=True)
class SetUpPart:
    """One part of the set-up, and what is wrong with it."""

    name: str
    problem: str = ""
    missing_settings: bool = False
    """Whether the problem is that settings of a runner are missing. The problem then names them."""


@dataclass(frozen=True, slots=True)
class RoleFinding:
    """A role of the database, compared with what a kind of process needs."""

    role: str
    process: str
    excess: tuple[str, ...] = ()
    lacking: tuple[str, ...] = ()
    required: bool = False
    """Whether the caller asked for this comparison. Otherwise what it finds is no problem."""

    def problems(self) -> Iterator[str]:
        """List the problems."""
        if not self.required:
            return
        grants = f"`spoke-jobs migrate --grants {self.process}=ROLE`"
        for sentence in self.lacking:
            yield f"the database role {self.role} {sentence}, which {self.process} must: run {grants} with it"
        for sentence in self.excess:
            yield (
                f"the database role {self.role} {sentence}, more than {self.process} needs: make a role of its own, "
                f"and run {grants}"
            )

    def __str__(self) -> str:
        """Describe it for people."""
        if self.lacking or self.excess:
            return f"{self.role}: {'; '.join((*self.lacking, *self.excess))}"
        return f"{self.role}: exactly the privileges that {self.process} needs"


@dataclass(frozen=True, slots=True)
class SetUp:
    """Everything that `check` found."""

    runner: SetUpPart
    application: SetUpPart
    ledger: SetUpPart
    database_named: bool
    """Whether the runner's problem names the unset SPOKE_DATABASE_URL. The ledger's problem would repeat it."""
    jobs: tuple[str, ...]
    tasks: tuple[str, ...]
    cluster: tuple[Finding, ...]
    roles: tuple[RoleFinding, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not list(self.problems())

    def problems(self) -> Iterator[str]:
        """List the problems, each once."""
        parts = (self.application, self.runner) if self.database_named else (self.application, self.runner, self.ledger)
        yield from (part.problem for part in parts if part.problem)
        for role in self.roles:
            yield from role.problems()
        for finding in self.cluster:
            yield from finding.problems
