"""The operator's rules, and for each rule an edit that breaks it."""

from __future__ import annotations

from dataclasses import dataclass

_CORE, _SHELL = "operator/spoke_jobs_operator/core", "operator/spoke_jobs_operator/shell"


@dataclass(frozen=True, slots=True)
class Break:
    """One edit; the text to replace is in the file exactly once."""

    rule: str
    file: str
    before: str
    after: str


def _core(rule: str, file: str, before: str, after: str) -> Break:
    return Break(rule, f"{_CORE}/{file}.py", before, after)


def _shell(rule: str, file: str, before: str, after: str) -> Break:
    return Break(rule, f"{_SHELL}/{file}.py", before, after)


_ADMISSION = (
    _core("A locked queue admits no second job that locks it", "admit", "if item.locks_queue and (holders := usage", "if False and (holders := usage"),
    _core("The limit on all running jobs holds", "admit", "usage.total >= limits.running", "usage.total > limits.running"),
    _core("The limit of a namespace holds", "admit", "running >= limits.in_namespace", "running > limits.in_namespace"),
    _core("The limit of a queue holds", "admit", "running >= limits.in_queue", "running > limits.in_queue"),
    _core("The limit of an organization holds", "admit", "limit is not None and running >= limit", "limit is not None and running > limit"),
    _core("Higher priority goes first", "admit", "sorted(groups, reverse=True)", "sorted(groups)"),
    _core("Among the jobs of one organization, the oldest goes first", "admit", "sorted(group, key=_age, reverse=True)", "sorted(group, key=_age)"),
    _core("Organizations take turns", "admit", "turns.get(party, 0), _age", "0, _age"),
    _core("The organization with the fewest running jobs goes first", "admit", "heads = [(usage.of_party[party], turns", "heads = [(0, turns"),
    _core("A job that must wait does not block the jobs behind it", "admit", "if line:  # a held", "if line and item.key in usage.locked_by:  # a held"),
    _shell("The operator remembers which organization had the last turn", "pacing", "self._served[party] = self._turn", "pass"),
    _shell("A job that waits releases its place", "pacing", "self._release(key)\n\n    def order", "pass\n\n    def order"),
    _shell("Releasing a place wakes the job that waits for it", "pacing", "self._take_turn(candidate.party)\n            self._wake(candidate.key)", "self._take_turn(candidate.party)"),
    _shell("A new leader counts the running attempts before it admits a job", "controller", "self._pacer.prime(running, waiting)", "self._pacer.prime([], waiting)"),
)  # fmt: skip

_LIFECYCLE = (
    _core("One Job per attempt: an unrecorded Job is adopted", "reconcile", "if made := unrecorded(spokejob, seen.jobs):", "if made := list[Job]():"),
    _core("A Job that was created and deleted before it was recorded counts as an attempt", "reconcile", "if seen.made > current.attempt:", "if False:"),
    _core("The next attempt waits until its backoff is over", "next_attempt", "if current.next_attempt_at and now < current.next_attempt_at:", "if False:"),
    _core("The next attempt waits until no pod of the previous one runs", "next_attempt", "if wait := cleanup.until_nothing_runs(current, seen.jobs, seen.pods, now):", "if wait := None:"),
    _core("A Job counts as deleted only after a live read", "diagnose", "if job is None and not live:\n        return Unclear()\n    held_back", "held_back"),
    _core("A Job that another SpokeJob owns is ignored", "reconcile", "job for job in seen.jobs if job.owner == spokejob.uid and job.attempt > 0", "job for job in seen.jobs if job.attempt > 0"),
    _shell("A Job that has the attempt's name and another owner is not adopted", "controller", "if read_job(body).owner != spokejob.uid:", "if False:"),
    _core("A template without the label is refused", "build_job", "if not template.allowed:", "if False:"),
    _core("Memory grows up to its bound", "memory_growth", "in_mebibytes(min(wanted, most))", "in_mebibytes(wanted)"),
    _core("A Job for Kueue is created suspended", "build_job", "if KUEUE_QUEUE in template.kueue:", "if False:"),
    _core("A failed attempt is charged to its class of cause", "status", "closed = closed.model_copy(update={\"charged\": _charge(status.charged, end.cause)})", "pass"),
    _core("The cause is written before the Job is deleted", "reconcile", "return Decision(Standing.HOLDS, (*actions, *(() if job.meta.deletion_at else (_delete(job),))))", "return Decision(Standing.HOLDS, (*(() if job.meta.deletion_at else (_delete(job),)), *actions))"),
    _core("An attempt that is stopped is over when its pods have ended", "reconcile", "elif job and any(not has_ended(pod, now) for pod in pods):", "elif False:"),
    _core("A success in time counts, even if the attempt was being stopped", "reconcile", "if isinstance(final_state, Ended) and not final_state.cause:", "if False:"),
    _core("A final outcome never changes", "reconcile", "if current.outcome and current.outcome.final:", "if False:"),
    _core("A final state in the ledger wins", "reconcile", "if current.ledger:\n        started", "if False:\n        started"),
    _core("An unchanged status is not written", "observed", "if updated == current:\n            return ()", "if False:\n            return ()"),
    _core("A suspended SpokeJob starts no attempt", "next_attempt", "if not seen.spokejob.spec.suspend:", "if True:"),
    _core("The attempt of a cancelled SpokeJob is stopped", "reconcile", "if seen.spokejob.spec.cancel and not isinstance(state, (Unclear, Ended)):", "if False:"),
    _core("A cancelled SpokeJob starts no attempt", "reconcile", "elif spokejob.spec.cancel and not _not_yet_recorded(seen, now):", "elif False:"),
    _core("An attempt runs no longer than its timeout", "diagnose", "if now >= deadline:\n        return Ended(cause=Cause.TIMEOUT, stop=True)", "if False:\n        return Ended(cause=Cause.TIMEOUT, stop=True)"),
    _core("An attempt waits for its start no longer than its start timeout", "diagnose", "if now >= deadline:\n        cause =", "if False:\n        cause ="),
    _core("A blocked SpokeJob ends at its start timeout", "next_attempt", "if now >= deadline:\n        final =", "if False:\n        final ="),
    _core("Jobs of ended attempts are deleted", "cleanup", "if now >= due:", "if False:"),
    _core("A SpokeJob is deleted when its retention is over", "cleanup", "if now >= expires_at:", "if False:"),
    _core("A SpokeJob whose end the ledger never confirmed is kept for a week", "cleanup", "stays = ttl if current.ledger else max(ttl, UNCONFIRMED_TTL)", "stays = ttl"),
)  # fmt: skip

_SEEING = (
    _shell("An older version of an object never replaces a newer one", "store", "if old is not None and new.version <= self._identify(old).version:", "if False:"),
    _shell("A deleted object does not reappear", "store", "if new.version <= self._deleted.get(new.uid, -1):", "if False:"),
    _shell("After a failed write, the objects are read live", "controller", "except Exception:\n                self._stale.add(key)\n                raise", "except Exception:\n                raise"),
    _shell("The status of a running attempt is written within the throttle's time limit", "controller", "waits.append(wait + 0.01)  # slightly late rather than slightly early\n", ""),
)  # fmt: skip

_LEADING = (
    _shell("Leadership counts from before the call that renewed it", "leadership", "self._until = begun + self._times.renewed_within", "self._until = self._clock() + self._times.renewed_within"),
    _shell("A renewal has a deadline", "leadership", "async with asyncio.timeout(max(0.0, seconds)):", "async with asyncio.timeout(None):"),
    _shell("Leadership that is not renewed in time ends", "leadership", "return self._clock() < self._until", "return self._until > float(\"-inf\")"),
    _core("A Lease lapses after it was seen unchanged for its whole duration", "election", "at >= seen.since + record.lasts", "at >= seen.since + record.lasts / 2"),
    _core("A leader stops before a standby may take over", "election", "if not 0 < self.retry < self.renewed_within < self.lasts:", "if False:"),
    _shell("A replica that does not lead sends no write", "operator_client", "if not may_send():", "if False:"),
    _shell("The Lease is replaced only in the version that was read", "operator_client", "metadata[\"resourceVersion\"] = resource_version", "pass"),
    _shell("A Job is deleted only in the version that was read", "operator_client", "\"preconditions\": {\"uid\": uid, \"resourceVersion\": resource_version},\n            \"propagationPolicy\": \"Foreground\"", "\"propagationPolicy\": \"Foreground\""),
    _shell("A status is written only onto the version that was read", "operator_client", "                \"resourceVersion\": resource_version,\n", ""),
)  # fmt: skip

BREAKS = (*_ADMISSION, *_LIFECYCLE, *_SEEING, *_LEADING)
