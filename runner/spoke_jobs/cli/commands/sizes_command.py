"""`sizes`: what jobs of each type use, what they ask for, and the requests that would do."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from spoke_jobs.cli.commands import arguments
from spoke_jobs.cli.commands.application import open_application
from spoke_jobs.cli.commands.exits import reports_errors
from spoke_jobs.cli.commands.filter_options import selects_jobs
from spoke_jobs.cli.commands.ledger_access import open_queries, refuse_unknown_names
from spoke_jobs.cli.printing import new_console, print_text, print_texts
from spoke_jobs.errors import SpokeJobsError
from spoke_jobs.model import ANY_JOB, JobFilter, JobOptions
from spoke_jobs.registry import CHECK
from spoke_jobs.settings import load_settings
from spoke_jobs.type_names import SUFFIX, matches


@reports_errors
@selects_jobs("state", "batch", "lane", "cause", "fingerprint")
def sizes(which: JobFilter = ANY_JOB, json: arguments.Json = False) -> None:
    """Compare what jobs of each type ask for with what they used, and name the requests that would do.

    Of each type, the newest 100 successful jobs are read; filters other than the type then select some of them. MEMORY
    and CPU are the median, the 95th percentile and the largest value: of the peak memory, and of the CPU time divided
    by the wall time, in cores. ASKS is what the option `resources` requests; the PodTemplate decides on the rest. NEEDS
    is the largest peak memory with a margin of 10 %, and the 95th percentile of the cores, both rounded up.

    If the output is not a terminal, each line has twelve fields, separated by tabs, and memory is in bytes.
    """
    queries = open_queries()
    from spoke_jobs.explain import sizes as explained

    found = explained.sizes(queries.usage_by_type(which), _declared(which))
    if not any(one.successes for one in found):
        refuse_unknown_names(queries, which)
    if json:
        from spoke_jobs.cli.printing import print_document
        from spoke_jobs.explain.sizes_json import Sizes

        print_document(Sizes.of(found))
        return
    from spoke_jobs.cli.rendering import sizes_output

    if not arguments.on_a_terminal():
        print_texts(sizes_output.size_lines(found))
        return
    if not found:
        print_text("no job has succeeded")
        return
    new_console().print(sizes_output.size_table(found))


def _declared(which: JobFilter) -> Mapping[str, JobOptions]:
    """Return the options of the types that the application declares; none without SPOKE_APP, or if its import fails."""
    settings = load_settings()
    if settings.app:
        with suppress(SpokeJobsError):
            jobs = open_application(settings).jobs
            return {
                name: jobs.get(name).options
                for name in jobs
                if name != CHECK
                and not name.endswith(SUFFIX)
                and (which.job_type is None or matches(name, which.job_type))
            }
    return {}
