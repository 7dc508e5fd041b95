"""`why`: what a job waits for, how it runs, or why it ended."""

from __future__ import annotations

from spoke_jobs.cli.commands import arguments
from spoke_jobs.cli.commands.exits import fail_not_found, reports_errors
from spoke_jobs.cli.commands.ledger_access import cluster_view, open_queries


@reports_errors
def why(job_id: arguments.Id, json: arguments.Json = False) -> None:
    """Explain what a job waits for, how it runs, or why it ended, from the ledger and, if reachable, the cluster."""
    from spoke_jobs.cli.explaining.why import explain

    _, queries = open_queries()
    situation = queries.situation(job_id)
    if situation is None:
        fail_not_found(job_id)
    explanation = explain(situation, None if situation.job.state.final else cluster_view(situation.job))
    if json:
        from spoke_jobs.cli.rendering.json_output import Explained, print_document

        print_document(Explained.of(situation.job, explanation))
        return
    from spoke_jobs.cli.rendering.why_output import plain_lines, print_explanation

    if arguments.on_a_terminal():
        print_explanation(situation.job, explanation)
    else:
        print(*plain_lines(explanation), sep="\n")
