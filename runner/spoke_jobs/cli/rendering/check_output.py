"""What `check` prints."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from spoke_jobs.cli.explaining.cluster_findings import Finding


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the set-up, and what is wrong with it."""

    name: str
    problem: str = ""
    missing_settings: bool = False
    """Whether the problem is that settings of a runner are missing. It names them."""


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

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not list(self.problems())

    def problems(self) -> Iterator[str]:
        """List the problems, each once."""
        parts = (self.application, self.runner) if self.database_named else (self.application, self.runner, self.ledger)
        yield from (part.problem for part in parts if part.problem)
        for finding in self.cluster:
            yield from finding.problems


def print_lines(found: SetUp) -> None:
    """Print what was found. The caller prints the problems."""
    if not found.runner.problem:
        print(f"runner       {found.runner.name}: configured")
    if found.application.name and not found.application.problem:
        print(f"application  {found.application.name}: {len(found.jobs)} jobs, {len(found.tasks)} tasks")
        for name in found.jobs:
            print(f"             job   {name}")
        for name in found.tasks:
            print(f"             task  {name}")
    elif not found.application.problem:
        print("application  SPOKE_APP is not set: not needed by a process that only reads jobs")
    if not found.ledger.problem:
        print(f"ledger       {found.ledger.name}: migrated")
    for number, finding in enumerate(finding for finding in found.cluster if finding.said or finding.unknown):
        words = "; ".join(word for word in (finding.said, finding.unknown) if word)
        print(f"{'cluster' if number == 0 else '':<13}{finding.name:<12}{words}")


def print_json(found: SetUp) -> None:
    """Print one JSON document."""
    from spoke_jobs.cli.rendering import json_output

    def part(item: Part) -> json_output.Part:
        return json_output.Part(name=item.name, ok=not item.problem, problem=item.problem)

    json_output.print_document(
        json_output.Checked(
            ok=found.ok,
            runner=part(found.runner),
            application=part(found.application),
            jobs=found.jobs,
            tasks=found.tasks,
            ledger=part(found.ledger),
            cluster=tuple(json_output.ClusterFinding.model_validate(finding) for finding in found.cluster),
        )
    )
