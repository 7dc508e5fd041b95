"""What `check` prints."""

from __future__ import annotations

from spoke_jobs.cli.printing import print_text
from spoke_jobs.explain.set_up import SetUp
from spoke_jobs.explain.words import count


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
