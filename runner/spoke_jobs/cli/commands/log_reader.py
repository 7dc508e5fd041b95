"""Read pods, SpokeJobs and the ledger for `logs`, and print what `log_steps` decides."""

from __future__ import annotations

import importlib.util
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from sqlalchemy.exc import OperationalError

from spoke_jobs.cli.commands import log_steps
from spoke_jobs.cli.commands.exits import Exit, fail, fail_not_found
from spoke_jobs.cli.commands.ledger_access import cluster_view
from spoke_jobs.cli.commands.log_steps import Printed, Read, Step, key
from spoke_jobs.cli.printing import print_error, print_note, print_text, print_unchanged
from spoke_jobs.cluster import kube_environment
from spoke_jobs.contract.executors import Executor
from spoke_jobs.contract.names import spokejob_name
from spoke_jobs.errors import ConfigurationError
from spoke_jobs.explain import kept_output
from spoke_jobs.explain.reasons import Reason
from spoke_jobs.explain.tries import Try, tries
from spoke_jobs.explain.why import explain
from spoke_jobs.explain.words import line, lines
from spoke_jobs.ledger.reading.queries import Queries
from spoke_jobs.model import JobRequest, JobState
from spoke_jobs.settings import load_settings
from spoke_jobs.shared.api_errors import ApiError, ApiUnavailable, Forbidden, NotFound, StreamSilent, Unauthorized

if TYPE_CHECKING:
    from spoke_jobs.cluster.pod_logs import PodLogs

_EVERY_SECONDS = 0.5
_LAST_TRIES = 6
"""How often a success whose job printed is read again for further lines."""
_REMEMBERED = 100
"""How many printed lines are searched for the traceback, which the job may have printed itself."""
_RIGHT = "the Role FULLNAME-reader of the chart spoke-app gives that right"


class Reader:
    """Print the output of one job.

    :param attempt: the number of the attempt to print; None for the newest.
    :param raw: print the output of pods unchanged, with its control characters.
    """

    def __init__(self, queries: Queries, job_id: int, attempt: int | None, *, raw: bool = False) -> None:
        self._queries = queries
        self._job_id = job_id
        self._attempt = attempt
        self._print = print_unchanged if raw else print_text
        self._output: PodLogs | None = None
        self._printed = Printed()
        self._refused = False
        self._said: set[str] = set()
        self._newest: deque[str] = deque(maxlen=_REMEMBERED)

    def close(self) -> None:
        if self._output is not None:
            self._output.close()

    def once(self) -> Exit:
        """Print the output so far."""
        job, found = self._begin()
        item = log_steps.chosen(found, job, self._attempt)
        if item is not None:
            read = self._read(item, follow=False) if self._readable(job, item) else None
            if read is Read.ALL:
                self._print_traceback(item)
            elif read is not Read.NOT_STARTED:
                self._print_tail(job, item, read)
        if job.state is JobState.WAITING:
            self._say_what_it_waits_for(job)
        return Exit.FAILED if self._refused else Exit.DONE

    def follow(self) -> Exit:
        """Print the output so far and what follows, until the job has ended."""
        job, found = self._begin()
        first = log_steps.chosen(found, job, self._attempt)
        self._printed.first = log_steps.key(first) if first else (job.run, 1)
        self._printed.last = self._printed.first if self._attempt is not None else None
        while not log_steps.over(job, found, self._printed):
            item = log_steps.next_try(found, self._printed)
            if item is None or not self._follow(job, item):
                self._say_what_it_waits_for(job)
                time.sleep(_EVERY_SECONDS)
            job, found = self._read_again()
        if job.state is JobState.FAILED:
            print_error(f"job {job.id} has failed with {line(job.cause)}: spoke-jobs why {job.id}")
        return Exit.FAILED if job.state is JobState.FAILED or self._refused else Exit.DONE

    def _follow(self, job: JobRequest, item: Try) -> bool:
        """Print the available output of an attempt. Return False if there is none yet."""
        read = None
        do = log_steps.begin(job, item, self._printed)
        if do is Step.READ:
            self._say_once(f"attempt {item.number}: {line(item.worker)}{f' on {item.node}' if item.node else ''}")
            read = self._read(item, follow=True)
            do = log_steps.go_on(job, item, self._printed, read)
            if do is Step.READ:  # the container has ended and the API server does not know yet, or the connection broke
                time.sleep(_EVERY_SECONDS)
        elif do is Step.WAIT and item.executor(job) is not Executor.CLUSTER:
            self._say_once(f"attempt {item.number}: its last lines follow every 2 s; all are in the log of its worker, "
                           f"{line(item.worker)}")  # fmt: skip
            self._print_new(item)
        if do is Step.TAIL:
            self._print_tail(job, item, read)
        elif do is Step.DONE:
            rows = self._queries.attempts(job.id)  # the attempt's end is recorded before its pod ends
            self._print_traceback(next((other for other in tries(job, rows, None) if key(other) == key(item)), item))
        if do in (Step.TAIL, Step.DONE):
            self._printed.done.add(log_steps.key(item))
        return do is not Step.WAIT

    def _readable(self, job: JobRequest, item: Try) -> bool:
        return log_steps.begin(job, item, self._printed) is Step.READ

    def _read(self, item: Try, *, follow: bool) -> Read:
        """Print the output of the attempt's pod."""
        assert self._output is not None
        known = log_steps.key(item)
        try:
            for printed in self._output.lines(item.worker, self._printed.after.get(known, ""), follow=follow):
                self._print(printed.text)
                self._newest.extend(lines(printed.text))
                self._printed.after[known] = printed.at
            return Read.ALL if not follow or self._output.has_ended(item.worker) else Read.SOME
        except ApiError as error:
            return self._not_read(error, follow=follow)

    def _not_read(self, error: ApiError, *, follow: bool) -> Read:
        if isinstance(error, Unauthorized | Forbidden):
            self._name_what_is_refused(error)
            return Read.REFUSED
        if isinstance(error, ApiUnavailable):
            if not follow:
                self._refused = True
                print_error(line(str(error)))
            elif not isinstance(error, StreamSilent):  # a silent stream is reopened without a message
                self._say_once(f"{line(str(error))}; retrying")
            return Read.AWAY
        if isinstance(error, NotFound):
            return Read.GONE
        return Read.NOT_STARTED

    def _name_what_is_refused(self, error: ApiError) -> None:
        from spoke_jobs.cluster.pod_logs import user_in

        assert self._output is not None
        self._refused = self._printed.blind = True
        if isinstance(error, Unauthorized):
            print_error("the API server rejects the credentials: check KUBECONFIG, or the pod's service account")
            return
        right = "get pods/log" if "pods/log" in str(error) else "get pods"
        print_error(f"{user_in(str(error))} may not {right} in namespace {self._output.namespace}: {_RIGHT}")

    def _print_tail(self, job: JobRequest, item: Try, read: Read | None) -> None:
        if item.executor(job) is not Executor.CLUSTER and key(item) in self._printed.lines:
            for _ in range(_LAST_TRIES):  # the output of a success is stored after its end
                time.sleep(_EVERY_SECONDS)
                item = next((other for other in self._tries(job) if key(other) == key(item)), item)
                if kept_output.traceback(item) != self._printed.lines[key(item)]:
                    break
            self._print_new(item)
            return
        kept = kept_output.tail(item)
        print_note(log_steps.why_a_tail(job, item, read, kept))
        if kept:
            print_text("\n".join(kept))

    def _print_new(self, item: Try) -> None:
        """Print the lines of a worker's job that the ledger keeps and that were not printed yet."""
        kept = kept_output.traceback(item)
        new, missing = log_steps.after(self._printed.lines.get(key(item), []), kept)
        if missing:
            print_note(f"attempt {item.number}: the ledger does not keep some lines here")
        if new:
            print_text("\n".join(new))
        if kept:
            self._printed.lines[key(item)] = kept

    def _print_traceback(self, item: Try) -> None:
        """Print the traceback, which is in the ledger, unless the job printed it itself."""
        kept = kept_output.traceback(item)
        if kept and kept[-1] not in self._newest:
            print_note(f"attempt {item.number}: the last lines of its traceback, from the ledger")
            print_text("\n".join(kept))

    def _begin(self) -> tuple[JobRequest, Sequence[Try]]:
        job = self._job()
        found = self._tries(job)
        if self._attempt is not None and log_steps.chosen(found, job, self._attempt) is None:
            there = ", ".join(str(item.number) for item in found if item.run == job.run) or "none yet"
            fail(f"job {job.id} has no attempt {self._attempt} (attempts: {there})")
        return job, found

    def _open_output(self) -> PodLogs | None:
        where = kube_environment.namespace(load_settings().namespace)
        problem = "SPOKE_NAMESPACE is not set"
        if importlib.util.find_spec("kubernetes") is None:
            problem = "the Python package 'kubernetes' is missing: pip install 'spoke-jobs[kubernetes]'"
        elif where:
            from spoke_jobs.cluster.pod_logs import PodLogs

            try:
                return PodLogs(where)
            except ConfigurationError as error:
                problem = str(error)
        self._refused = True
        print_error(f"the cluster could not be read: {problem}")
        return None

    def _job(self) -> JobRequest:
        jobs = self._queries.jobs([self._job_id])[1]
        if not jobs:
            fail_not_found(self._job_id)
        return jobs[0]

    def _tries(self, job: JobRequest) -> Sequence[Try]:
        if job.executor is Executor.CLUSTER and self._output is None and not self._printed.blind:
            self._output = self._open_output()  # now, if the job has just moved to a pod
            self._printed.blind = self._output is None
        name = spokejob_name(job.job_type, job.id, job.uid, job.run)
        spokejob = self._output.spokejob(name) if self._output is not None else None
        return tries(job, self._queries.attempts(job.id), spokejob, self._queries.reports(job.id))

    def _read_again(self) -> tuple[JobRequest, Sequence[Try]]:
        while True:
            try:
                job = self._job()
                return job, self._tries(job)
            except OperationalError:
                self._say_once("the database does not answer; retrying")
                time.sleep(_EVERY_SECONDS)

    def _say_what_it_waits_for(self, job: JobRequest) -> None:
        try:
            situation = self._queries.situation(job.id)
        except OperationalError:
            return
        if situation is None or situation.job.state is JobState.RUNNING:
            return
        situation = replace(situation, now=situation.now.astimezone())  # in the terminal's time zone
        for reason in explain(situation, cluster_view(situation.job)).reasons[:1]:
            self._say_once(f"job {job.id}: {reason.text}{f' ({reason.advice})' if reason.advice else ''}", _id(reason))

    def _say_once(self, text: str, known_as: str = "") -> None:
        """Print a line to standard error, unless the last one was the same.

        :param known_as: identifies lines that differ only in their times.
        """
        if (known_as or text) not in self._said:
            print_note(text)
        self._said = {known_as or text}


def _id(reason: Reason) -> str:
    return f"{reason.code} {reason.cause} {reason.job_id}"
