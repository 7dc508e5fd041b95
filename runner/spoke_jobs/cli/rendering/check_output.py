"""What `check` prints."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from spoke_jobs.cli.explaining.cluster_findings import Finding
from spoke_jobs.cli.printing import print_text
from spoke_jobs.cli.words import count


@dataclass(frozen=True, slots=True)
class Part:
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

    runner: Part
    application: Part
    ledger: Part
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


def print_lines(found: SetUp) -> None:
    """Print what was found. The caller prints the problems."""
    if not found.runner.problem:
        print_text(f"runner       {found.runner.name}: configured")
    if found.application.name and not found.application.problem:
        print_text(
            f"application  {found.application.name}: {count(len(found.jobs), 'job')}, {count(len(found.tasks), 'task')}"
        )
        for name in found.jobs:
            print_text(f"             job   {name}")
        for name in found.tasks:
            print_text(f"             task  {name}")
    elif not found.application.problem:
        print_text("application  SPOKE_APP is not set: a process that only reads jobs does not need it")
    if not found.ledger.problem:
        print_text(f"ledger       {found.ledger.name}: migrated")
    for role in found.roles:
        print_text(f"             role  {role}")
    for number, finding in enumerate(finding for finding in found.cluster if finding.said or finding.unknown):
        words = "; ".join(word for word in (finding.said, finding.unknown) if word)
        print_text(f"{'cluster' if number == 0 else '':<13}{finding.name:<12}{words}")


def print_json(found: SetUp) -> None:
    """Print one JSON document."""
    from spoke_jobs.cli.rendering import json_output
    from spoke_jobs.cli.rendering.shape import print_document

    def part(item: Part) -> json_output.Part:
        return json_output.Part(name=item.name, ok=not item.problem, problem=item.problem)

    print_document(
        json_output.Checked(
            ok=found.ok,
            runner=part(found.runner),
            application=part(found.application),
            jobs=found.jobs,
            tasks=found.tasks,
            ledger=part(found.ledger),
            roles=tuple(json_output.DatabaseRole.model_validate(role) for role in found.roles),
            cluster=tuple(json_output.ClusterFinding.model_validate(finding) for finding in found.cluster),
        )
    )
