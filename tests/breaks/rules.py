"""The operator's rules, and for each a way to break it: what is put in place of what."""

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
    _core("A queue that is locked is given to nobody else", "admit", "if item.locks_queue and (holders := usage", "if False and (holders := usage"),
    _core("The limit in all is kept", "admit", "usage.total >= limits.running", "usage.total > limits.running"),
    _core("The limit of a namespace is kept", "admit", "running >= limits.in_namespace", "running > limits.in_namespace"),
    _core("The limit of a queue is kept", "admit", "running >= limits.in_queue", "running > limits.in_queue"),
    _core("The limit of an organization is kept", "admit", "limit is not None and running >= limit", "limit is not None and running > limit"),
    _core("Higher priority goes first", "admit", "sorted(groups, reverse=True)", "sorted(groups)"),
    _core("Of an organization's own, the oldest goes first", "admit", "sorted(group, key=_age, reverse=True)", "sorted(group, key=_age)"),
    _core("Organizations take turns", "admit", "turns.get(party, 0), _age", "0, _age"),
    _core("Of organizations, the one with the fewest under way goes first", "admit", "heads = [(usage.of_party[party], turns", "heads = [(0, turns"),
    _core("One that is held lets those behind it pass", "admit", "if line:  # one that", "if line and item.key in usage.locked_by:  # one that"),
    _shell("Whose turn was last is remembered", "pacing", "self._served[party] = self._turn", "pass"),
    _shell("Who waits gives its place back", "pacing", "self._release(key)\n\n    def order", "pass\n\n    def order"),
    _shell("A place that is given back wakes who waits for it", "pacing", "self._take_turn(candidate.party)\n            self._wake(candidate.key)", "self._take_turn(candidate.party)"),
    _shell("A leader takes in who has an attempt before it admits anybody", "controller", "self._pacer.prime(running, waiting)", "self._pacer.prime([], waiting)"),
)  # fmt: skip

_LIFECYCLE = (
    _core("One Job for each attempt: what is not recorded is taken over", "reconcile", "if made := unrecorded(spokejob, seen.jobs):", "if made := list[Job]():"),
    _core("A Job that was made and deleted before it was recorded was an attempt", "reconcile", "if seen.made > current.attempt:", "if False:"),
    _core("The next attempt waits for its time", "next_attempt", "if current.next_attempt_at and now < current.next_attempt_at:", "if False:"),
    _core("The next attempt waits until nothing of the last one runs", "next_attempt", "if wait := cleanup.until_nothing_runs(current, seen.jobs, seen.pods, now):", "if wait := None:"),
    _core("Absence is believed only where it was read live", "diagnose", "if job is None and not live:\n        return Unclear()\n    held_back", "held_back"),
    _core("A Job of another SpokeJob is not ours", "reconcile", "job for job in seen.jobs if job.owner == spokejob.uid and job.attempt > 0", "job for job in seen.jobs if job.attempt > 0"),
    _shell("A Job of another's that has the attempt's name is not taken over", "controller", "if read_job(body).owner != spokejob.uid:", "if False:"),
    _core("A template without the label is refused", "build_job", "if not template.allowed:", "if False:"),
    _core("Memory grows up to its bound", "memory_growth", "in_mebibytes(min(wanted, most))", "in_mebibytes(wanted)"),
    _core("A Job for Kueue is created suspended", "build_job", "if KUEUE_QUEUE in template.kueue:", "if False:"),
    _core("Attempts are charged", "status", "closed = closed.model_copy(update={\"charged\": _charge(status.charged, end.cause)})", "pass"),
    _core("The cause is written before the Job is deleted", "reconcile", "return Decision(Standing.HOLDS, (*actions, *(() if job.meta.deletion_at else (_delete(job),))))", "return Decision(Standing.HOLDS, (*(() if job.meta.deletion_at else (_delete(job),)), *actions))"),
    _core("A success that was in time counts, whatever was to stop it", "reconcile", "if isinstance(last_word, Ended) and not last_word.cause:", "if False:"),
    _core("A final SpokeJob stays as it ended", "reconcile", "if current.outcome and current.outcome.final:", "if False:"),
    _core("The ledger's word is final", "reconcile", "if current.ledger:\n        started", "if False:\n        started"),
    _core("A status that is as it should be is not written", "observed", "if updated == current:\n            return ()", "if False:\n            return ()"),
    _core("Suspended, it starts nothing", "next_attempt", "if not seen.spokejob.spec.suspend:", "if True:"),
    _core("Cancelled, it is stopped", "reconcile", "if seen.spokejob.spec.cancel and not isinstance(state, (Unclear, Ended)):", "if False:"),
    _core("Cancelled, it starts nothing", "reconcile", "elif spokejob.spec.cancel and not _not_yet_recorded(seen, now):", "elif False:"),
    _core("It runs no longer than its timeout", "diagnose", "if now >= deadline:\n        return Ended(cause=Cause.TIMEOUT, stop=True)", "if False:\n        return Ended(cause=Cause.TIMEOUT, stop=True)"),
    _core("It waits no longer than its start timeout", "diagnose", "if now >= deadline:\n        cause =", "if False:\n        cause ="),
    _core("What is blocked ends with the start timeout", "next_attempt", "if now >= deadline:\n        final =", "if False:\n        final ="),
    _core("Jobs of ended attempts are deleted", "cleanup", "if now >= due:", "if False:"),
    _core("A SpokeJob is deleted when its time is over", "cleanup", "if now >= expires_at:", "if False:"),
    _core("A SpokeJob whose end the ledger never confirmed stays a week", "cleanup", "stays = ttl if current.ledger else max(ttl, UNCONFIRMED_TTL)", "stays = ttl"),
)  # fmt: skip

_SEEING = (
    _shell("An older version never replaces a newer one", "store", "if old is not None and new.version <= self._identify(old).version:", "if False:"),
    _shell("What was deleted doesn't come back", "store", "if new.version <= self._deleted.get(new.uid, -1):", "if False:"),
    _shell("After a write that failed, the objects are read live", "controller", "except Exception:\n                self._stale.add(key)\n                raise", "except Exception:\n                raise"),
    _shell("That it runs is told within the budget's time, if late", "controller", "waits.append(wait + 0.01)  # slightly late rather than slightly early\n", ""),
)  # fmt: skip

_LEADING = (
    _shell("A lead counts from before the call that renewed it", "leadership", "self._until = begun + self._terms.renewed_within", "self._until = self._clock() + self._terms.renewed_within"),
    _shell("A renewal has a deadline", "leadership", "async with asyncio.timeout(max(0.0, seconds)):", "async with asyncio.timeout(None):"),
    _shell("A lead that was not renewed in time is over", "leadership", "return self._clock() < self._until", "return self._until > float(\"-inf\")"),
    _core("A lease lapses when it has been seen unchanged for as long as it lasts", "election", "at >= seen.since + record.lasts", "at >= seen.since + record.lasts / 2"),
    _core("A holder stops before others may take over", "election", "if not 0 < self.retry < self.renewed_within < self.lasts:", "if False:"),
    _shell("No write leaves a process that doesn't lead", "operator_client", "if not may_send():", "if False:"),
    _shell("The Lease is replaced as it was read", "operator_client", "metadata[\"resourceVersion\"] = resource_version", "pass"),
    _shell("A Job is deleted as it was read", "operator_client", "\"preconditions\": {\"uid\": uid, \"resourceVersion\": resource_version},\n            \"propagationPolicy\": \"Foreground\"", "\"propagationPolicy\": \"Foreground\""),
    _shell("A status is written onto what was read", "operator_client", "                \"resourceVersion\": resource_version,\n", ""),
)  # fmt: skip

BREAKS = (*_ADMISSION, *_LIFECYCLE, *_SEEING, *_LEADING)
