"""The rules, and for each rule an edit that breaks it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_CORE, _SHELL = "operator/spoke_jobs_operator/core", "operator/spoke_jobs_operator/shell"
_CONTRACT, _SERVER = "runner/spoke_jobs/contract", "runner/spoke_jobs/tasks/server"


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


def _contract(rule: str, file: str, before: str, after: str) -> Break:
    return Break(rule, f"{_CONTRACT}/{file}.py", before, after)


def _shared(rule: str, file: str, before: str, after: str) -> Break:
    return Break(rule, f"runner/spoke_jobs/shared/{file}.py", before, after)


def _server(rule: str, file: str, before: str, after: str) -> Break:
    return Break(rule, f"{_SERVER}/{file}.py", before, after)


def _runner(rule: str, file: str, before: str, after: str) -> Break:
    return Break(rule, f"runner/spoke_jobs/{file}.py", before, after)


_ADMISSION = (
    _core("A locked queue admits no second job that locks it", "admission/admit", "if item.locks_queue and (holders := usage", "if False and (holders := usage"),
    _core("The limit on all running jobs holds", "admission/admit", "self.total += by", "self.total += 0"),
    _core("The limit of a namespace holds", "admission/admit", "running = usage.in_scope.get(limited, 0)", "running = usage.in_scope.get(limited, 0) - (kind in (ScopeKind.ALL,))"),
    _core("The limit of a queue holds", "admission/admit", "running = usage.in_scope.get(limited, 0)", "running = usage.in_scope.get(limited, 0) - (kind in (ScopeKind.QUEUE, ScopeKind.EACH_QUEUE))"),
    _core("The limit of a type or a prefix of types holds", "admission/admit", "running = usage.in_scope.get(limited, 0)", "running = usage.in_scope.get(limited, 0) - (kind in (ScopeKind.TYPE, ScopeKind.EACH_TYPE))"),
    _core("The limit of a key holds", "admission/admit", "running = usage.in_scope.get(limited, 0)", "running = usage.in_scope.get(limited, 0) - (kind in (ScopeKind.KEY,))"),
    _core("The limit of an organization holds", "admission/admit", "running = usage.in_scope.get(limited, 0)", "running = usage.in_scope.get(limited, 0) - (kind in (ScopeKind.ORGANIZATION, ScopeKind.EACH_ORGANIZATION))"),
    _core("Higher priority goes first", "admission/admit", "sorted(groups, reverse=True)", "sorted(groups)"),
    _core("Among the jobs of one organization, the oldest goes first", "admission/admit", "sorted(group, key=lambda item: item.age, reverse=True)", "sorted(group, key=lambda item: item.age)"),
    _core("Organizations take turns", "admission/admit", "turns.of_party(party), line[-1].age", "0, line[-1].age"),
    _core("The organization with the fewest running jobs goes first", "admission/admit", "return (usage.of_party.get(party, 0), turns", "return (0, turns"),
    _core("A job that must wait does not block the jobs behind it", "admission/admit", "if line:  # a held", "if line and item.key in usage.locked_by:  # a held"),
    _core("The operator remembers which organization had the last turn", "admission/turns", "self._parties[party] = self._number", "pass"),
    _core("The namespace with the fewest running jobs for its weight is next", "admission/admit", "return (running / weights[name], *turns", "return (0, *turns"),
    _core("A namespace's turns follow its weight", "admission/turns", "(start + 1 / weight, self._number)", "(start + 1, self._number)"),
    _core("A namespace saves no turns up", "admission/turns", "max(self._virtual, due)", "due"),
    _core("Of several limits the smallest one holds", "limits/limits", "return min((bound for bound in bounds", "return max((bound for bound in bounds"),
    _core("No window has more starts than its rate allows", "admission/admit", "usage.rates.take(item.rates(rules))", "pass"),
    _core("Of several rates each one holds", "limits/limits", "yield name, bounds", "yield name, bounds[:1]"),
    _core("However many rates a scope has, all hold", "limits/limits", "rate=replace(last.rate, burst=burst)", "rate=last.rate"),
    _core("Each start takes a token before the next job is looked at", "limits/start_rates", "put(name, full_at, self.now)\n        self._waits.clear()", "put(name, full_at, self.now)"),
    _core("Each queue has its own tokens under a rate of each queue", "limits/start_rates", "return self.full_at.get(name, self.rest)", "return self.last"),
    _core("A new leader causes no second burst", "limits/start_rates", "return rate.used_up(item.status.full_at if _has_one_bucket(item) else None, self._since)", "return _LONG_AGO"),
    _core("Changes of leaders keep no job from its token", "limits/start_rates", "rate.used_up(item.status.full_at if", "rate.used_up(None if"),
    _core("The buckets of rates are bounded in memory", "limits/start_rates", "if name in self.full_at or len(self.full_at) < MOST_BUCKETS:", "if True:"),
    _shell("When a token comes, the next job starts", "admission/pacing", "self._later(seconds, partial(self._token_is_due, self._timers))", "pass"),
    _shell("Nobody takes a token that somebody has waited for", "admission/pacing", "if self._token_at is not None and any(candidate.rates(rules)):", "if False:"),
    _contract("The time of the next token alone causes no write", "wait_status", " and wait.code != WaitReason.RATE_LIMIT_REACHED", ""),
    _core("A job's priority counts up to the cap of its namespace", "limits/limits", "else min(priority, self.max_priority.value)", "else priority"),
    _core("A paused job starts no attempt", "admission/admit", "return None if pause is None else pause.wait()", "return None"),
    _core("Only the oldest unfinished jobs of a namespace may start", "admission/admit", "if ahead < bound.value:", "if True:"),
    _core("A pause ends by itself", "limits/limits", "return None if pause.is_over(now) else pause", "return pause"),
    _shell("A changed limit holds at once", "admission/limit_keeper", "self._pacer.set_limits(limits)", "pass"),
    _shell("The operator starts nothing before it knows what is paused", "watching/compare", "await self._limits(namespace)", "pass"),
    _shell("A SpokeJob that is deleted or wants no attempt releases its place", "admission/pacing", "self._release(key)\n\n    def order", "pass\n\n    def order"),
    _shell("A SpokeJob that is created again does not have the place of its predecessor", "reconciling/controller", "if self._uids.get(key, uid) != uid:", "if False:"),
    _shell("A SpokeJob that changes while it waits does not wait for what held it before", "admission/pacing", "and candidate != self._waiting[key]:", "and candidate.priority != self._waiting[key].priority:"),
    _shell("Releasing a place wakes the job that waits for it", "admission/pacing", "# admit has counted it\n                self._wake(candidate.key)", "# admit has counted it"),
    _shell("A new leader counts the running attempts of all namespaces before it admits a job", "process/operator_process", "        if self._primed:\n", "        if self._leads:\n"),
    _shell("A new leader counts the running attempts before it admits a job", "reconciling/controller", "self._pacer.prime(running, waiting, sorted(", "self._pacer.prime([], waiting, sorted("),
)  # fmt: skip

_HOLDS = (
    _core("The time that a pod waits for room counts against no start timeout", "diagnosis/diagnose", "if patience:", "if False:"),
    _core("A pod that waited for room and then fits no node has its whole start timeout", "reconciling/reconcile", "if wait.code in UNCOUNTED:", "if wait.code == WaitReason.QUOTA_EXCEEDED:"),
    _core("While pods wait for room, few others are created", "obstacles/room", "if self._no_node[group] >= IN_A_FULL_GROUP or without_node:", "if False:"),
    _core("A PodTemplate without room holds up no other PodTemplate", "obstacles/room", "elif without_node and self._no_node[group]:", "elif without_node:"),
    _core("Each namespace has a share of the pods that may start at a time", "obstacles/room", "return namespaces >= bound or own >= bound // (namespaces if own else namespaces + 1)", "return True"),
    _core("A Job that somebody else has made gives its SpokeJob no place", "reconciling/reconcile", "if seen.held and decision.standing is Standing.HOLDS", "if False"),
    _core("A Job that does not start one pod is no attempt", "reconciling/observed", "spokejob.uid and job.starts_one_pod and", "spokejob.uid and"),
    _core("A pod that its node does not start holds up others for a while only", "obstacles/room", "if now - attempt.since >= _LATE[attempt.phase]:", "if False:"),
    _core("A pod that fits no node does not wait for room", "diagnosis/scheduler_message", "return nodes is not None and 0 < int(nodes[1]) <= hopeless", "return False"),
    _core("While the database is away, one attempt probes", "obstacles/probing", "return now >= self.next_probe", "return True"),
    _core("An end that shows no answer of the database opens nothing", "obstacles/dependency_hold", "(cause not in _SILENT_CAUSES and", "(cause and"),
    _core("Single fast starts let no more pods start at a time", "obstacles/room", "if took <= FAST and 2 * self.pending >= self.may_start:", "if took <= FAST:"),
    _shell("A busy namespace silences no other's Events", "reporting/event_recorder", "self._own[key] = self._make(1)", "self._all[kind]"),
    _core("After the database's return, attempts follow gradually", "obstacles/dependency_hold", "in self.unproven) < self.probing.allowance", "in self.unproven) < 1_000"),
    _core("The time that a pod waits for a quota counts against no start timeout", "diagnosis/diagnose", "if found.reason == WaitReason.QUOTA_EXCEEDED:", "if False:"),
    _core("A pod still waits for a quota after Kubernetes has deleted its Events", "diagnosis/diagnose", "found.reason == WaitReason.POD_PENDING and bounds.by_quota:", "False:"),
    _core("A job that was held for a quota keeps its status while the quota refuses its pod", "reconciling/reconcile", "if _says_so_already(seen.spokejob.status, onward.seen.refused):", "if False:"),
    _core("An attempt that is not recorded still waits for a quota after Kubernetes has deleted its Events", "reconciling/reconcile", "return now - record.started_at > TRIED_WITHIN", "return False"),
    _core("A pod that waited for a quota and is then rejected has its whole start timeout", "reconciling/reconcile", "if wait.code in UNCOUNTED:", "if wait.code == WaitReason.CLUSTER_FULL:"),
    _core("While a quota refuses pods, few others are created", "obstacles/refusal_hold", "if hold is None or self._places(group, hold) > 0 or", "if hold is None or True or"),
    _core("An attempt that ends makes room in a quota for one more", "obstacles/refusal_hold", "return hold.fits - kept + hold.probing.allowance - self._in_use(group)", "return hold.probing.allowance - self._in_use(group)"),
    _core("Later attempts do not take each place before those that a quota refused", "obstacles/refusal_hold", "kept = hold.fits if refused >= MOST_REFUSED else min(refused, (hold.fits + 1) // 2)", "kept = 0"),
    _core("Refused pods that do not fit hold smaller ones up for a while only", "obstacles/refusal_hold", "hold.passed = True", "pass"),
    _core("Single attempts probe whether a quota was raised", "obstacles/refusal_hold", "if not hold.probing.is_due(now) or self", "if True or self"),
    _core("A PodTemplate whose pods are stuck leaves places to others", "obstacles/start_hold", "if self.since is None or count < most:", "if True:"),
    _core("Once a pod runs, the stuck ones of its PodTemplate hold nobody up", "obstacles/start_hold", "pods.stuck.clear()\n", "return False\n"),
    _core("Few of the Jobs that a policy rejects are tried", "obstacles/rejection_hold", "or found.has_room(job_type):", "or True:"),
    _core("A job type whose Jobs are rejected holds no other type of its PodTemplate", "obstacles/rejection_hold", "self.by_type[job_type] < OF_A_TYPE + self.accepted[job_type]", "self.by_type.total() < OF_A_TYPE"),
    _core("Once Jobs are accepted again, all follow", "obstacles/rejection_hold", "self._groups[group].accepted[job_type] += 1\n        self._leave(key)", "pass"),
    _core("The start timeout of a rejected Job goes on between two tries", "reconciling/next_attempt", "or (retries and held.code == WaitReason.START_LIMIT_REACHED)", "or False"),
    _core("One attempt a minute probes whether the pods of a PodTemplate start again", "obstacles/start_hold", "return now >= self.probe_at and count", "return False and count"),
    _shell("While a webhook is away, few Jobs are tried", "admission/pacing", "wait.code not in REFUSALS:", "wait.code != REFUSALS[0]:"),
    _core("A webhook that is away ends a job that it holds up after a day", "reconciling/next_attempt", "if held.code == WaitReason.WEBHOOK_AWAY:", "if False:"),
    _core("A pod that alone exceeds a quota does not wait for it", "diagnosis/refusals", "and 0 < hard < requested", "and False"),
    _core("While a quota is zero, nothing fails for it", "diagnosis/refusals", "and 0 < hard < requested", "and hard < requested"),
    _shell("A Job that a quota refuses waits for its turn again", "admission/pacing", "holds.job_refused(candidate.group, wait)", "pass"),
)  # fmt: skip

_LIFECYCLE = (
    _core("One Job per attempt: an unrecorded Job is adopted", "reconciling/reconcile", "if made := unrecorded(spokejob, seen.jobs):", "if made := list[Job]():"),
    _core("A Job that was created and deleted before it was recorded counts as an attempt", "reconciling/reconcile", "if seen.made > current.attempt:", "if False:"),
    _core("The next attempt waits until its backoff is over", "reconciling/next_attempt", "if current.next_attempt_at and now < current.next_attempt_at:", "if False:"),
    _core("The next attempt waits until no pod of the previous one runs", "reconciling/next_attempt", "if wait := cleanup.until_nothing_runs(current, seen.jobs, seen.pods, now):", "if wait := None:"),
    _core("A Job counts as deleted only after a live read", "diagnosis/diagnose", "if job is None and not live:\n        return Unclear()\n    held_back", "held_back"),
    _core("A Job that another SpokeJob owns is ignored", "reconciling/observed", "return job.owner == spokejob.uid and job.starts_one_pod and", "return job.starts_one_pod and"),
    _shell("A Job that has the attempt's name and another owner is not adopted", "reconciling/controller", "if not is_an_attempt_of(spokejob, read_job(body)):", "if False:"),
    _core("A template without the label is refused", "templates/template_checks", "return None if template.allowed else", "return None if True else"),
    _core("A template is refused to types that it is not for", "templates/template_checks", "if allows_type(", "if True or allows_type("),
    _core("A job sets no amount beyond those of its template", "objects/template_annotations", "asked > largest", "False"),
    _core("After OutOfMemory, memory is never increased beyond the upper bound", "templates/build_job", "in_mebibytes(min(wanted, most))", "in_mebibytes(wanted)"),
    _core("A Job for Kueue is created suspended", "templates/build_job", "if KUEUE_QUEUE in job_labels:", "if False:"),
    _core("A failed attempt is charged to its class of cause", "reconciling/status", "closed = closed.model_copy(update=_charge(status, end.cause))", "pass"),
    _core("The cause is written before the Job is deleted", "reconciling/reconcile", "return Decision(Standing.HOLDS, (*actions, *(() if job.meta.deletion_at else (DeleteJob.of(job),))))", "return Decision(Standing.HOLDS, (*(() if job.meta.deletion_at else (DeleteJob.of(job),)), *actions))"),
    _core("An attempt that is stopped is over when its pods have ended", "reconciling/reconcile", "elif job and any(not has_ended(pod, now) for pod in pods):", "elif False:"),
    _core("An attempt that succeeds before it can be stopped counts as succeeded", "reconciling/reconcile", "if isinstance(final_state, Ended) and not final_state.cause:", "if False:"),
    _core("A final outcome changes only if the ledger differs", "reconciling/reconcile", "if current.is_final:", "if False:"),
    _core("A final state in the ledger ends the SpokeJob, whatever the state of its pods", "reconciling/reconcile", "if current.ledger:\n        started", "if False:\n        started"),
    _core("An unchanged status is not written", "reconciling/observed", "if updated == current:\n            return ()", "if False:\n            return ()"),
    _core("A suspended SpokeJob starts no attempt", "reconciling/next_attempt", "if not seen.spokejob.spec.suspend:", "if True:"),
    _core("The attempt of a cancelled SpokeJob is stopped", "reconciling/reconcile", "if seen.spokejob.spec.cancel and not isinstance(state, (Unclear, Ended)):", "if False:"),
    _core("A cancelled SpokeJob starts no attempt", "reconciling/reconcile", "elif spokejob.spec.cancel and (seen.held or not _not_yet_recorded(seen, now)):", "elif False:"),
    _core("An attempt runs no longer than its timeout", "diagnosis/diagnose", "if now >= deadline:\n        return Ended(cause=Cause.TIMEOUT, stop=True)", "if False:\n        return Ended(cause=Cause.TIMEOUT, stop=True)"),
    _core("An attempt waits for its start no longer than its start timeout", "diagnosis/diagnose", "if now >= deadline:\n        if found.reason", "if False:\n        if found.reason"),
    _core("A blocked SpokeJob ends at its start timeout", "reconciling/next_attempt", "if now >= deadline:\n        job_id =", "if False:\n        job_id ="),
    _core("Jobs of ended attempts are deleted", "reconciling/cleanup", "if now >= due:\n            actions", "if False:\n            actions"),
    _core("The SpokeJob of a run that was retried stays until sync has read its output", "reconciling/cleanup", "if now >= read_at:\n            return", "if True:\n            return"),
    _core("A kept Job beyond the bound stays until its output is read", "reconciling/cleanup", "due = min(due, _ended_at(current, job, now) + retention.job)", "due = now"),
    _core("A job waits for an absent webhook for a day", "reconciling/next_attempt", "if now >= ends_at:", "if False:"),
    _core("A SpokeJob is deleted when its retention is over", "reconciling/cleanup", "if now >= expires_at:", "if False:"),
    _core("A SpokeJob whose end the ledger never confirmed is kept for a week", "reconciling/cleanup", "stays = ttl if current.ledger else max(ttl, UNCONFIRMED_TTL)", "stays = ttl"),
)  # fmt: skip

_SEEING = (
    _shell("An older version of an object never replaces a newer one", "store/store", "if old is not None and new.version <= self._identify(old).version:", "if False:"),
    _shell("A deleted object does not reappear", "store/store", "if new.version <= self._deleted.get(new.uid, -1):", "if False:"),
    _shell("After a failed write, the objects are read live", "reconciling/controller", "except Exception:\n                self._stale.add(key)\n                raise", "except Exception:\n                raise"),
    _shell("The status of a running attempt is written within the throttle's time limit", "reconciling/controller", "waits.append(wait + 0.01)  # slightly late rather than slightly early\n", ""),
)  # fmt: skip

_LEADING = (
    _shell("Leadership counts from before the call that renewed it", "process/leadership", "self._until = begun + self._times.renewed_within", "self._until = self._clock() + self._times.renewed_within"),
    _shell("A renewal has a deadline", "process/leadership", "async with asyncio.timeout(max(0.0, seconds)):", "async with asyncio.timeout(None):"),
    _shell("Leadership that is not renewed in time ends", "process/leadership", "return self._clock() < self._until", "return self._until > float(\"-inf\")"),
    _core("A Lease lapses after it was seen unchanged for its whole duration", "process/election", "at >= seen.since + record.lasts", "at >= seen.since + record.lasts / 2"),
    _core("A leader stops before a standby may take over", "process/election", "if not 0 < self.retry < self.renewed_within < self.lasts:", "if False:"),
    _shell("A replica that does not lead sends no write", "api/operator_client", "if not may_send():", "if False:"),
    _shell("The Lease is replaced only in the version that was read", "api/operator_client", "metadata[\"resourceVersion\"] = resource_version", "pass"),
    _shell("A Job is deleted only in the version that was read", "api/operator_client", "\"preconditions\": {\"uid\": uid, \"resourceVersion\": resource_version},\n            \"propagationPolicy\": \"Foreground\"", "\"propagationPolicy\": \"Foreground\""),
    _shell("A status is written only onto the version that was read", "api/operator_client", "                \"resourceVersion\": resource_version,\n", ""),
)  # fmt: skip

_LIMITS = (
    _core("A SpokeLimit limits its own namespace only", "limits/limits", "return self.namespaces.get(namespace, self.usual)", "return next(iter(self.namespaces.values()), self.usual)"),
    _core("The limit of each queue holds for a queue that has a larger one of its own", "limits/limits", "*_values([item], \"max_running\"), of_each)", "*_values([item], \"max_running\"))"),
    _runner("A job without a queue counts against no limit of a queue", "contract/limit_scopes", "        if queue and (", "        if ("),
    _core("The pause of a queue holds back no other queue", "limits/limits", "in applying(self.pauses, subject)]", "in applying(self.pauses, subject._replace(queue_name=subject.queue_name and next(iter(named(self.pauses, ScopeKind.QUEUE)), subject.queue_name)))]"),
    _runner("The pause of each organization holds back every organization", "contract/limit_scopes", "            yield _EACH_ORGANIZATION, \"each-organization\", name\n", ""),
    _core("The operator's own pause holds back namespaces with SpokeLimits, too", "limits/limits", "pauses=_pauses(usual.paused or pause, items, now)", "pauses=_pauses(pause, items, now)"),
    _core("The annotation of a Namespace pauses it", "objects/limit_objects", "paused=isinstance(reason, str) and reason != NOT_PAUSED", "paused=False"),
    _core("The annotation with the value `false` pauses nothing", "objects/limit_objects", " and reason != NOT_PAUSED", ""),
    _runner("A paused job says who paused it", "contract/limit_model", "by=self.by,", "by=\"\","),
    _core("A job without a timeout gets that of its namespace", "limits/limits", "if seconds is None and self.default_timeout is not None:", "if False:"),
    _core("No attempt runs longer than its namespace allows", "limits/limits", "min(seconds, self.max_timeout.value)", "seconds"),
    _core("A changed timeout of the namespace changes no running attempt", "reconciling/reconcile", "record.timeout_seconds or spec.timeout_seconds", "seen.limits.timeout_of(spec.timeout_seconds)"),
    _core("An attempt runs for as long as its namespace allowed at its start", "reconciling/reconcile", "record.timeout_seconds or spec.timeout_seconds", "spec.timeout_seconds"),
    _contract("A scope that this release does not know limits nothing", "limit_scopes", "if kind == word), None)", "if kind == word), ScopeKind.ALL)"),
    _core("A SpokeLimit with an unknown scope says that it is not enforced", "reporting/limit_status", "if item.scope is None:", "if False:"),
    _core("A SpokeLimit shows how many of its jobs run", "reporting/limit_status", "running=running[key] if item.scope else None", "running=0"),
    _shell("When a pause ends by itself, jobs start without another change", "admission/limit_keeper", "self._later(wait, partial(self._timer_fires, self._timers))", "pass"),
    _shell("After a change of limits, a waiting job shows its new reason", "admission/limit_keeper", "self._wake(key)", "pass"),
    _shell("While limits can't be computed, the earlier ones hold", "admission/limit_keeper", "self.on_error(error)", "raise"),
    _shell("Without the right to list SpokeLimits, the known ones hold", "watching/limit_sources", "# the known objects still apply\n            self._lacks(kind, namespace, error)\n            return", "\n            self._lacks(kind, namespace, error)\n            remove(list(index), math.inf)\n            return"),
    _shell("Many changed SpokeLimits are written a few at a time", "reporting/limit_reporter", "left -= 1", "pass"),
    _shell("A SpokeLimit of which only counts change is written every few seconds", "reporting/limit_reporter", "if recent and (", "if False and ("),
    _core("A job that starts at once takes its turn", "admission/admit", "    turns.take(item.party, rules.weight)\n", ""),
    _core("The shown order follows weights and caps of priorities", "limits/limits", "return Limits(namespaces=ordering)", "return Limits()"),
    _core("To show the order takes no turns", "admission/admit", "limits.only_order(), turns.copy()", "limits.only_order(), turns"),
    _core("Turns of namespaces that are long gone are forgotten", "admission/turns", "if len(self._namespaces) > REMEMBERED:", "if False:"),
)  # fmt: skip

_QUOTAS = (
    _core("A quota that refuses the pods of one PodTemplate holds up no other PodTemplate", "obstacles/refusal_hold", "hold = self._holds.get(group)\n        if hold is None or self._places", "hold = next(iter(self._holds.values()), None)\n        if hold is None or self._places"),
    _core("A job that waits for a quota shows since when the quota is full", "obstacles/refusal_hold", "return replace(hold.wait, since=hold.since)", "return hold.wait"),
    _core("While refused attempts may take a place, no other attempt probes the quota", "obstacles/refusal_hold", "return not refused or (hold.passed and refused < MOST_REFUSED)", "return True"),
    _core("One attempt at a time probes a quota", "obstacles/refusal_hold", " or self._counts[group, _Stage.CREATED]:", ":"),
    _core("Probes of a quota come at growing intervals", "obstacles/refusal_hold", "hold.probing = hold.probing.started(now)", "pass"),
    _core("After a quota is raised, admission opens ever faster", "obstacles/refusal_hold", "hold.probing = hold.probing.opened()", "pass"),
    _core("Pods from before a quota's refusal show no more room", "obstacles/refusal_hold", "if was_refused or attempt.since > hold.refused_at:", "if True:"),
    _core("While ten pods are refused, these get all places that become free", "obstacles/refusal_hold", "hold.fits if refused >= MOST_REFUSED else min(", "min("),
    _core("A quota holds nothing up after ten minutes without a refusal", "obstacles/refusal_hold", "opened = hold.probing.is_over or now - hold.refused_at >= FORGOTTEN", "opened = hold.probing.is_over"),
    _core("A quota holds up others while it refuses a pod", "obstacles/refusal_hold", "if opened and not refused:", "if opened:"),
    _core("A message that does not name the quota replaces none that does", "obstacles/refusal_hold", "elif wait.object or wait.code == WaitReason.WEBHOOK_AWAY:", "else:"),
    _core("A new leader continues to hold for a quota", "obstacles/holds", "self.refusals.resume(group, wait, self.now)", "pass"),
    _core("A pod that a quota refuses only because of a race is not rejected", "diagnosis/obstacles", "if not message or is_race(message):", "if not message:"),
)  # fmt: skip

_DATABASE = (
    _core("Single ends without the database hold up nobody", "obstacles/dependency_hold", "if len(ends) < ENDS:", "if False:"),
    _core("The ends of one SpokeJob without the database count once", "obstacles/dependency_hold", "| {key: now}", "| {(key, len(known)): now}"),
    _core("Ends without the database that are minutes apart hold up nobody", "obstacles/dependency_hold", "for other, at in known.items() if now - at < WITHIN}", "for other, at in known.items()}"),
    _core("A database that is away holds up its own namespace only", "obstacles/dependency_hold", "away = self._away.get(namespace)\n        if away is None or away.may_start(now):", "away = next(iter(self._away.values()), None)\n        if away is None or away.may_start(now):"),
    _core("Probes of the database come at growing intervals", "obstacles/probing", "in_a_row = self.in_a_row + 1", "in_a_row = 1"),
    _core("If the database goes away again, attempts are held again", "obstacles/dependency_hold", "return replace(left, probing=self.probing.held_again(now)) if self.probing.allowance else left", "return left"),
    _core("An attempt from before the outage that ends late holds up nobody", "obstacles/dependency_hold", "if not self.has(key):\n            return self\n        left", "left"),
    _core("An attempt that runs for longer than it waits for the database has reached it", "obstacles/dependency_hold", "return [item.key for item in self.unproven if item.proven_at is not None and now >= item.proven_at]", "return []"),
    _core("A pod that waits for its start delays no other attempt after the database's return", "obstacles/dependency_hold", "or now - self.admitted_at < SLOW_START", "or True"),
    _core("A hold for the database that nobody probes is forgotten", "obstacles/dependency_hold", "if not away.unproven and now - away.probing.next_probe >= FORGOTTEN:", "if False:"),
    _core("A job that lost another database than its own holds up nobody", "obstacles/dependency_hold", "if answered or not is_dependency(cause):", "if not is_dependency(cause):"),
    _core("A new leader continues to hold for the database", "obstacles/holds", "self.dependencies.resume(group.namespace, Cause.DATABASE_UNREACHABLE, since, self.now)", "pass"),
    _core("Attempts that a new leader finds running are no probes of the database", "obstacles/holds", "if not adopted:", "if True:"),
)  # fmt: skip

_ROOM = (
    _core("A job that waits for room says what is short", "obstacles/room", "object=full.short,", "object=\"\","),
    _core("While as many pods start as may, no other one is created", "obstacles/room", "return self._not_full.is_reached(self.may_start, namespace)", "return False"),
    _core("The more nodes run attempts, the more pods may start at a time", "obstacles/room", "self.most_pending, STARTING_ON_A_NODE * len(self._nodes))", "self.most_pending)"),
    _core("While nodes start pods slowly, fewer start at a time", "obstacles/room", "elif took > SLOW:", "elif False:"),
    _core("Pods that a new leader finds running are no fast starts", "obstacles/room", " and not attempt.adopted:", ":"),
    _core("A PodTemplate counts as full for a minute after its last pod without room", "obstacles/room", "elif now >= full.until:", "else:"),
    _core("A young job that waits only because others start causes no status write", "obstacles/room", "if now - created_at < UNWRITTEN:", "if False:"),
    _core("A pod waits for room on a cordoned node", "diagnosis/scheduler_message", "if _CORDONED in nodes.lower():", "if False:"),
    _core("A pod for which some nodes are full and others unsuitable waits for room", "diagnosis/scheduler_message", "if not mismatches or _short_of(nodes) or _CORDONED in lower:", "if not mismatches:"),
    _core("A pod that no node suits names the rule that excludes them", "diagnosis/scheduler_message", "return (WaitReason.NO_NODE_MATCHES, \", \".join(mismatches))", "return (WaitReason.UNSCHEDULABLE, \"\")"),
)  # fmt: skip

_ENDS = (
    _core("A Job records that its pod was disrupted", "templates/build_job", "\"podFailurePolicy\": deepcopy(dict(DISRUPTIONS)),\n", ""),
    _core("A drained pod that is gone counts as Drained, not as PodDeleted", "diagnosis/diagnose", "if job.failure_reason == DISRUPTED:", "if False:"),
    _core("A pod that its node evicts under pressure counts as Evicted, not as Drained", "diagnosis/pod_end", "return Cause.EVICTED if pod.disruption", "return Cause.DRAINED if pod.disruption"),
    _core("A pod that ends with its node's shutdown counts as Drained", "diagnosis/pod_end", "if pod.disruption in _DRAINS or pod.reason in _SHUTDOWNS:", "if pod.disruption in _DRAINS:"),
    _core("A pod that its full node refuses is not charged", "diagnosis/pod_end", " or pod.reason.startswith(_OUT_OF)", ""),
    _core("A pod that a restarting node refuses is not charged", "diagnosis/pod_end", "return pod.reason in _REFUSED_BY_NODE or ", "return "),
    _core("A pod that a node under pressure refuses is not charged", "diagnosis/pod_end", "return not pod.disruption and not any(isinstance(item.state, Running | Terminated) for item in pod.containers)", "return False"),
    _core("A container that its node lost in a restart is not charged", "diagnosis/pod_end", "if container.reason in _LOST_TRACK:", "if container.reason in _LOST_TRACK - {\"ContainerStatusUnknown\"}:"),
    _core("A pod that somebody deletes counts as PodDeleted, not as Killed", "diagnosis/pod_end", "(Cause.POD_DELETED if pod.meta.deletion_at else \"\")", "\"\""),
    _core("A pod whose node does not answer counts as NodeLost, not as Drained", "diagnosis/pod_end", "(pod.disruption == _TAINTED and pod.node_silent)", "False"),
    _core("A pod that is deleted by force counts as PodDeleted, not as NodeLost", "diagnosis/diagnose", "silent = pod.node and pod.meta.deletion_grace_seconds", "silent = pod.node"),
    _core("A deleted pod's container may still report its end within the grace period", "diagnosis/diagnose", "if now >= lost:", "if True:"),
    _core("The pod of a deleted Job counts as JobDeleted", "diagnosis/diagnose", "return replace(end, cause=Cause.JOB_DELETED) if job_deleted else end", "return end"),
    _core("The pod of a Job that Kueue suspends counts as Preempted", "diagnosis/diagnose", "return replace(end, cause=Cause.PREEMPTED, stop=True)", "return end"),
    _core("A container that ran out of memory counts as OutOfMemory, not as Killed", "diagnosis/pod_end", "if container.reason == \"OOMKilled\":", "if False:"),
    _core("A container that its node did not start is not charged to the job", "diagnosis/pod_end", "return Cause.CONTAINER_RUNTIME_FAILED if is_runtime_trouble(message) else", "return Cause.CONTAINER_CANNOT_RUN if is_runtime_trouble(message) else"),
    _core("A container whose command is missing is charged, whatever the command's name", "diagnosis/runtime_trouble", "found[-1] ==", "found[0] =="),
    _core("A pod whose container the node can't create ends uncharged at its start timeout", "diagnosis/obstacles", "if reason == Cause.CONTAINER_CANNOT_RUN and is_runtime_trouble(message):", "if False:"),
    _core("A pod that its node does not prepare in time ends uncharged at its start timeout", "diagnosis/diagnose", "if found.reason == WaitReason.SANDBOX_FAILED and is_runtime_trouble(found.message):", "if False:"),
    _core("A memory limit that is too low to start a container counts as OutOfMemory", "diagnosis/pod_end", "if is_short_of_memory(container.message):", "if False:"),
    _core("A container that somebody's signal ended counts as Killed, not as JobExited", "diagnosis/pod_end", "if code in _SIGNALS_OF_OTHERS:", "if False:"),
    _core("The start timeout counts from when the pod has its node", "diagnosis/diagnose", "begun = max(begun, pod.scheduled_at)", "pass"),
    _core("A new leader ends no attempt at its start timeout before kubelets can report", "diagnosis/diagnose", "if bounds.observed_since and begun < bounds.observed_since:", "if False:"),
)  # fmt: skip

_CONTAINERS = (
    _core("An attempt whose init container failed names it, with its exit code", "diagnosis/pod_end", "return _from_init(failed, pod) if failed else Ended(", "return Ended("),
    _core("An attempt ends with the job's container, whatever its sidecars do", "diagnosis/pod_end", "if isinstance(pod.container, Terminated):\n        return _from_container(pod.container, pod)", "if pod.terminal and isinstance(pod.container, Terminated):\n        return _from_container(pod.container, pod)"),
    _core("A sidecar is not taken for an init container", "objects/read_objects", "given.get(\"restartPolicy\") == \"Always\"", "False"),
    _core("An init container or sidecar that can't start is named", "diagnosis/obstacles", "if item.is_jobs or _comes_first(item)", "if item.is_jobs"),
    _core("A sidecar that ends again and again is named", "diagnosis/obstacles", "if item.kind is ContainerKind.SIDECAR and end and not", "if False and not"),
    _core("The status says what the kubelet first says of a sidecar that does not start", "reconciling/status", "known.message == wait_text.sentence(replace(wait, detail=\"\"))", "False"),
    _core("Events about the probes of a sidecar that has started are not read", "objects/read_objects", "not warning.message.startswith(_STARTUP_PROBE)", "False"),
    _core("An init container that takes long is named", "diagnosis/obstacles", "return Obstacle(reason, _said_of_start(item, warning), item.name, since)", "return Obstacle(WaitReason.POD_PENDING)"),
    _core("An init container that takes a moment causes no status write", "diagnosis/obstacles", "if now >= since + INIT_PATIENCE:", "if True:"),
    _core("A container that the job does not need ends no attempt before its start timeout", "diagnosis/obstacles", "return Obstacle(stuck.reason, stuck.message, stuck.object) if stuck else None", "return stuck"),
    _core("An attempt with an impossible image name ends at once", "diagnosis/obstacles", "hopeless=state.reason in _HOPELESS", "hopeless=False"),
    _core("The time in which an image's registry is away counts against no start timeout", "diagnosis/obstacles", "if reason == Cause.IMAGE_UNAVAILABLE and _REGISTRY_AWAY.search(message):", "if False:"),
    _core("A sidecar that runs on after a failed attempt is stopped soon", "reconciling/cleanup", "return retention.job if current.outcome is Outcome.SUCCEEDED else SETTLE", "return retention.of_failed"),
)  # fmt: skip

_PODS = (
    _core("Only the job's container gets the job's command", "templates/build_job", "if is_the_jobs(container):\n            _take_over", "if True:\n            _take_over"),
    _core("Jobs and pods carry the job's type, queue and organization as labels", "templates/build_job", "        **labels.job_labels(spec.job_type, spec.queue, spec.organization),\n", ""),
    _core("A label of a SpokeJob reaches its pod only if the PodTemplate allows it", "templates/build_job", " for key, value in spokejob.labels.items() if key in allowed}", " for key, value in spokejob.labels.items()}"),
    _core("A PodTemplate sets no label that is reserved for spoke-jobs", "templates/build_job", " if not labels.is_reserved(key)}", "}"),
    _core("A Job gets none of the labels by which tools track the objects that they install", "templates/build_job", " if not key.startswith(BOOKKEEPING)}", "}"),
    _contract("Different texts become different label values", "labels", "}-{digest}\".lstrip(\"-\")", "}\".lstrip(\"-\")"),
    _contract("A dispatch sets no label that is reserved for spoke-jobs", "labels", "if is_reserved(key):", "if False:"),
    _contract("A dispatch refuses a label that Kubernetes would refuse", "labels", "if not is_label_value(value):", "if False:"),
    _core("A pod does not run as root unless its PodTemplate says so", "templates/build_job", "context.setdefault(\"runAsNonRoot\", True)", "pass"),
    _core("A container gains no privileges unless its PodTemplate says so", "templates/build_job", "context.setdefault(\"allowPrivilegeEscalation\", False)", "pass"),
    _core("A pod gets no service account token unless its PodTemplate says so", "templates/build_job", "spec.setdefault(\"automountServiceAccountToken\", False)", "pass"),
    _core("The end of a container's log is copied to no status", "templates/build_job", "container[\"terminationMessagePolicy\"] = \"File\"", "container[\"terminationMessagePolicy\"] = \"FallbackToLogsOnError\""),
    _core("The cluster autoscaler evicts no running job", "templates/build_job", "\"true\" if safe_to_evict else \"false\"", "\"true\""),
    _core("A pod leaves a lost node soon unless its PodTemplate says otherwise", "templates/build_job", "if key not in keys", "if False"),
)  # fmt: skip

_UNDIAGNOSABLE = (
    _shell("A SpokeJob about which every decision fails ends after some tries", "reconciling/controller", "if not self._failed.failed(key, REFUSED_TRIES if refused else TRIES):", "if True:"),
    _shell("Only failed decisions in a row count", "reconciling/controller", "else:\n            self._failed.succeeded(key)", "else:\n            pass"),
    _shell("An API server that is away ends no SpokeJob", "reconciling/controller", "if isinstance(error, NotLeading) or (isinstance(error, ApiError) and error.status not in REFUSED_VALUES):", "if isinstance(error, NotLeading):"),
    _shell("A refused write is tried more often than a decision that fails", "reconciling/controller", "REFUSED_TRIES if refused else TRIES", "TRIES"),
    _shell("A SpokeJob that is given up releases its place", "reconciling/controller", "self._pacer.forget(key)\n        except", "pass\n        except"),
    _core("The attempt of a SpokeJob that is given up is stopped", "reconciling/reconcile", "(*stops, ApplyStatus(final, prompt=True))", "(ApplyStatus(final, prompt=True),)"),
    _contract("The message of a job that is given up quotes no values", "failed_decisions", "{type(error).__name__}{place}.", "{error!r}{place}."),
    _shell("An error in the admission of one job holds up no other", "admission/pacing", "self._recount(keeps_holds=True)\n            self._admit_singly()", "self._recount(keeps_holds=True)"),
    _shell("An object that can't be read hides no other", "store/store", "store.on_error(error)\n            return set()", "raise"),
    _shell("A SpokeJob that can't be read ends, with the names of the fields", "reconciling/controller", "await self._end_unreadable(item)\n            return", "return"),
    _runner("A job about which sync can't decide ends after some tries", "sync/undecided", "follows = undiagnosable(row, error) if last else ()", "follows = ()"),
    _runner("A SpokeJob that the API server fails to write holds up no other", "sync/effects", "if _affects_all(error) and not self._failed_writes.concerns_one(_name(action), error):", "if _affects_all(error):"),
    _runner("If many SpokeJobs can't be written, the API server is unavailable", "sync/undecided", "if self._in_a_row < MOST_FAILED:", "if True:"),
    _runner("A SpokeJob that can't be written counts once, however often that is tried", "sync/undecided", "if name not in self._failing:", "if True:"),
    _runner("A write that succeeds shows that the API server is available", "sync/effects", "                self._failed_writes.succeeded(_name(action))", "                pass"),
    _runner("Sync launches no job before it has written to existing SpokeJobs", "sync/leader_loop", "if isinstance(action, Launch):", "if False:"),
    _runner("The output of an attempt is read once", "sync/output_keeper", "attempt.number <= last:", "False:"),
    _runner("A bounded number of reads of output waits", "sync/output_keeper", "if len(self._readings) >= _QUEUED:", "if False:"),
    _runner("The output of an ended job is read although it had to wait", "sync/leader_loop", "if not seen.settled or self._outputs.is_postponed(seen.name):", "if not seen.settled:"),
    _runner("What sync remembers of a SpokeJob goes with the SpokeJob", "sync/leader_loop", "self._outputs.keep(remembered)", "pass"),
    _runner("The routines of the ledger go on although the API server is unavailable", "sync/leader_loop", "            self._refused = error", "            raise"),
    _runner("What sync knows outlives an error of the API server", "sync/sync_process", "loop = loop or LeaderLoop(", "loop = LeaderLoop("),
    _runner("Sync stores the output of pods before it forgets it", "sync/sync_process", "            loop.close(stores=stores)", "            loop.close(stores=False)"),
    _runner("Sync compares again after an error of the API server", "sync/leader_loop", "            self._listen()\n            self._due[\"compare\"] = 0.0", "            self._listen()"),
    _runner("A read of output that hangs delays no exit of sync", "sync/sync_process", "if thread.name.startswith(READERS))", "if False)"),
    _runner("Ends reach the ledger although the API server is unavailable", "sync/leader_loop", "if unavailable is not None and not isinstance(action, LedgerAction):", "if unavailable is not None:"),
)  # fmt: skip

_EVENTS = (
    _shell("Normal Events displace no warnings", "reporting/event_recorder", "key = (namespace, kind)", "key = (namespace, EventType.NORMAL)"),
    _shell("All namespaces together send a bounded number of Events", "reporting/event_recorder", "if not _take(self._all[kind]):", "if False:"),
    _shell("Events beyond the rate are dropped and counted", "reporting/event_recorder", "or not self._rates.take(about.key.namespace, event.type)", "or False"),
    _shell("An overloaded API server gets no Events for as long as it asks", "reporting/event_recorder", "if self._clock() < self._paused_until or", "if False or"),
    _shell("The same Event again is one object with a count", "reporting/event_recorder", "if known and self._clock() - known.at < _SERIES_SECONDS:", "if False:"),
    _shell("Events that can't be sent take a bounded amount of memory", "reporting/event_recorder", "elif self._queue.full():", "elif False:"),
    _shell("An Event that can't be sent costs itself alone", "reporting/event_recorder", "self._failed(about, error)", "raise"),
    _core("The note of an Event is as long as the API server allows", "reporting/job_events", "if len(encoded) > NOTE_BYTES:", "if False:"),
)  # fmt: skip

_READERS = (
    _shared("JSON with NaN or infinity is not read", "strict_json", "allow_inf_nan=False", "allow_inf_nan=True"),
    _shared("Text longer than the limit is not read as JSON", "strict_json", "if limit is not None and len(data) > limit:", "if False:"),
    _shared("Text with lone surrogates is no JSON and no error", "strict_json", "except (ValueError, TypeError):  # a TypeError for text with lone surrogates", "except ValueError:"),
    _shared("Text is stored without NUL characters and lone surrogates", "clean_text", "return _REFUSED.sub(UNSTORABLE, text)", "return text"),
    _shared("Text with NUL characters is not storable", "clean_text", "return b\"\\x00\" not in text.encode()", "return text.encode() is not None"),
    _contract("A container names no cause that is none", "termination", " or not (cause == \"\" or is_cause_name(cause))", ""),
    _contract("A container asks for no delay that is no number of seconds", "termination", "float(after) if is_wait(after) else None", "after"),
    _core("What a job's container writes is copied to no status, unless spoke-jobs wrote it", "diagnosis/pod_end", "message = _FOREIGN if container.message else \"\"", "message = container.message"),
    _runner("A status with a cause that is none reads as Undiagnosable, never as a success", "sync/sync_model", "return found if not found or is_cause_name(found) else Cause.UNDIAGNOSABLE", "return found if is_cause_name(found) else \"\""),
    _shared("A number of more than 64 bits reads as 0", "object_fields", " and -_LARGEST <= value <= _LARGEST else 0", " else 0"),
    _shared("A time of another era reads as none", "object_fields", "value.tzinfo is not None and _FIRST_YEAR <= value.year <= _LAST_YEAR", "value.tzinfo is not None"),
)  # fmt: skip

_TASKS = (
    _server("An address keeps no more connections than its limit", "connection_table", "if self._peers[peer] >= self._limits.peer:", "if False:"),
    _server("All addresses together keep no more connections than the limit", "connection_table", "elif len(self._slots) >= self._limits.total:", "elif False:"),
    _server("Room for a connection is made by the address that has the most without credentials", "connection_table", "peer = max(self._unproven, key=lambda peer: len(self._unproven[peer]), default=None)", "peer = next(iter(self._unproven), None)"),
    _server("A connection with valid credentials is closed for no other one", "connection_table", "shown valid credentials.\"\"\"\n        self._forget_unproven(slot)", "shown valid credentials.\"\"\""),
    _server("The kubelet's probes get in when all places are taken", "connection_table", "only_get = True", "return self._refused(\"full\")"),
    _server("Of a connection that is closed before its turn no work is left", "guarded_server", "        self._share.forget(slot.peer, number)\n", ""),
    _server("Each part of a TLS handshake waits for its turn", "lean_tls", "self._forget = self._run(self._go_on)", "self._go_on()"),
    _server("Bytes that trickle extend no phase of a connection", "connection_phases", "if key != self._key:", "if True:"),
    _server("A connection waits for its tasks for as long as they take", "connection_phases", "return Phase.ANSWER", "return Phase.HEADERS"),
    _server("The API server reviews an accepted token once a minute", "auth", "self._accepted.put(digest, _Cached(None, min(now + ACCEPTED_SECONDS, expires)))", "pass"),
    _server("No accepted token works beyond its own end", "auth", "min(now + ACCEPTED_SECONDS, expires)", "now + ACCEPTED_SECONDS"),
    _server("A refused token is reviewed again after some seconds", "auth", "now + REFUSED_SECONDS", "float(\"inf\")"),
    _server("Forged tokens displace no accepted one", "auth", "self._refused = _Cache(REFUSED_LIMIT)", "self._refused = self._accepted"),
    _server("Caches of tokens are bounded", "auth", "if len(self._answers) > self._limit:", "if False:"),
    _server("An address with many unknown tokens causes few reviews", "auth", "if known is None and not self._limits.allow(peer):", "if False:"),
    _server("All addresses together cause a bounded number of reviews", "auth", "return _take(bucket) and _take(self._total)", "return _take(bucket)"),
    _server("Many requests with one new token cause one review", "auth", "review = self._reviews.get(digest)", "review = None"),
    _server("A token that says that it is not for us causes no review", "auth", "refusal = refusal_by_claims(claims, self._allowed, self._clock())", "refusal = None"),
    _server("A token for another audience is refused", "auth", "if AUDIENCE not in (status.get(\"audiences\") or ()):", "if False:"),
    _server("A service account that is not listed is refused", "auth", "if user.startswith(_USER) and account in allowed:", "if user.startswith(_USER):"),
    _server("Bodies that arrive take a bounded amount of memory together", "http_app", "elif intake.receiving_bytes + size > BODIES_LIMIT_BYTES:", "elif False:"),
    _server("A body has a deadline", "http_app", "async with asyncio.timeout(BODY_SECONDS):", "async with asyncio.timeout(None):"),
    _server("A body is no longer than the limit", "http_app", "if len(body) + len(part) > limit:", "if False:"),
    _server("A full queue refuses a batch at once", "http_app", "if _is_full(self._executor, entries):", "if False:"),
    _server("A stopping server refuses tasks", "http_app", "elif intake.draining:", "elif False:"),
    _server("A request without valid credentials proves no connection", "http_app", "if refusal is not None:\n            _refusals", "if (prove := request.scope.get(\"state\", {}).get(CONNECTION)) is not None:\n            prove.prove()\n        if refusal is not None:\n            _refusals"),
    _server("Unknown tokens make no replica unready", "http_app", "if refusal.reason == \"review\":", "if refusal.status == 503:"),
    _server("Refused requests write a bounded number of log lines", "log_throttle", "if self._bucket.take() > 0:", "if False:"),
    _server("A cached outcome is forgotten after its time", "executor", "if found is not None and self._clock() - found.at > self._seconds:", "if False:"),
    _server("The cache of outcomes is bounded", "executor", "while len(self._ended) > self._limit or", "while False or"),
)  # fmt: skip

_FINISHED = (
    _runner("With SPOKE_FINISHED=delete, the row of a successful job goes", "settings", "return self.finished == \"keep\"", "return True"),
    _runner("With SPOKE_FINISHED=delete, the row's own retention does not count", "ledger/lifecycle/finish", "retention() if keep else 0.0))", "retention()))"),
    _runner("With SPOKE_FINISHED=delete, no worker is needed to delete a row", "runners/legacy_runner", "None if self.settings.keeps_successes else ledger.prune(_PRUNED_AT_ONCE, which=_OWN)", "None"),
)  # fmt: skip

_LEDGER_LIMITS = (
    _runner("A claim under limits sees what others have started meanwhile, whatever the database's isolation level", "ledger/engine", "\"isolation_level\": \"READ COMMITTED\"", "\"echo\": False"),
    _runner("A claim of one statement does so, too", "ledger/engine", "        connection.execute(_READ_COMMITTED)\n", ""),
    _runner("Ends and dispatches lock jobs in the same order", "ledger/lifecycle/held_claims", "        if _lock_in_order(", "        if True or _lock_in_order("),
    _runner("What the database ends because of a deadlock runs again", "ledger/sql_attempts", "if last or getattr(error.orig", "if True or getattr(error.orig"),
    _runner("No job of a batch waits for the one that follows the batch", "ledger/dependencies/dependency_rules", "if met := found.intersection(needs):", "if met := set[int]():"),
    _runner("In the ledger, each queue has its own tokens under a rate of each queue", "limits/admission", "in ((limit.id, \"\"), bucket_of(limit, name))]", "in ((limit.id, \"\"),)]"),
    _runner("A search leaves out the queues without a token", "limits/admission", "full += [(limit.scope, name) for limit, name in self._buckets() if self._shortage(limit, name)]", "pass"),
    _runner("Tokens that workers of an earlier release take count for each queue", "ledger/limits_and_pauses/bucket_rows", "return full_at if last is None or full_at > last else known", "return known"),
    _runner("Claims count the tokens that other claims have just taken", "ledger/claims/limited_claims", "return current_limits.Tokens(last, {**tokens.buckets, **current_limits.single_buckets(limits, last), **named})", "return tokens"),
    _runner("With too many empty buckets, no rate is exceeded", "ledger/limits_and_pauses/bucket_rows", "if len(rows) == MOST_EMPTY:", "if False:"),
    _runner("Buckets that are full are deleted", "ledger/limits_and_pauses/bucket_rows", "most = max(_DELETED_AT_LEAST, 2 * len(rows))", "most = 0"),
    _runner("A claim says until when the token of its rate holds", "limits/job_limit", "return max(_SHORTEST_START,", "return 10 * max(_SHORTEST_START,"),
)  # fmt: skip

_STARTS = (
    _runner("`why` names a condition of claims that keeps a job from being started", "ledger/claims/eligibility", "not_(func.coalesce(condition.expression(), false()))", "false()"),
    _runner("`why` without an id names a condition of claims that keeps jobs from being started", "ledger/reading/crowd", "case((unclaimed, \"\"), else_=first_unmet())", "case((unclaimed, \"\"), else_=\"\")"),
    _runner("Workers claim no suspended job", "ledger/claims/eligibility", "return and_(clock_once() >= DUE_FROM, NotSuspended().expression())", "return clock_once() >= DUE_FROM"),
    _runner("A resumed job may start", "ledger/lifecycle/start_rules", "changes: Changes = {\"suspended_at\": None}", "changes: Changes = {\"suspended_at\": job.suspended_at}"),
    _runner("No start timeout ends a suspended job", "ledger/maintenance/start_timeouts", "OfRunner(runner), NotSuspended(), StartTimedOut()", "OfRunner(runner), StartTimedOut()"),
    _runner("The start timeout of a resumed job begins when it is resumed", "ledger/lifecycle/start_rules", "changes[\"start_by\"] = start_by", "pass"),
    _runner("A retry by hand starts a job that was suspended", "ledger/lifecycle/transitions", "        \"suspended_at\": None,\n", ""),
    _runner("The wait of a job that is retried by hand begins with the retry", "ledger/lifecycle/transitions", "\"run_after\": clock.now(),\n        \"start_by\"", "\"run_after\": None,\n        \"start_by\""),
    _runner("A job whose claim is given back has been due since the same time", "ledger/lifecycle/transitions", " | {\"run_after\": run_after}", ""),
    _runner("A job that moves to a pod has been due since the same time", "ledger/lifecycle/transitions", "\"attempt\": 0, \"start_by\"", "\"attempt\": 0, \"run_after\": None, \"start_by\""),
    _runner("Run now starts no suspended job", "ledger/lifecycle/start_rules", "    if job.suspended_at is not None:\n        return f\"job", "    if False:\n        return f\"job"),
    _runner("Run now leaves a job with a SpokeJob to the operator", "ledger/lifecycle/start_rules", "if has_spokejob(job):", "if False:"),
    _runner("Run now passes no limit and no pause", "ledger/lifecycle/start_rules", "{\"run_after\": clock.now(), \"updated_at\": clock.now()}", "{\"run_after\": clock.now(), \"updated_at\": clock.now(), \"limit_key\": None}"),
    _runner("The start timeout of a job that is run now begins now", "ledger/lifecycle/start_rules", "changes[\"start_by\"] = clock.after(job.options.start_timeout_seconds)", "pass"),
    _runner("A job takes its place in the order by its new priority", "ledger/lifecycle/start_changes", "{\"rank\": -priority}", "{\"rank\": priority}"),
    _runner("A new priority changes nothing else of a job", "ledger/lifecycle/start_changes", "{\"rank\": -priority}", "{\"rank\": -priority, \"updated_at\": DATABASE_CLOCK.now()}"),
    _runner("The priority of a running job stays", "ledger/lifecycle/start_rules", "return f\"job {job.id} is running: its priority decides only when it starts\"", "return \"\""),
    _runner("Nothing changes when a job starts that has failed", "ledger/lifecycle/start_rules", "if job.state is JobState.FAILED:", "if False:"),
    _runner("Each change of a start has its event", "ledger/lifecycle/start_changes", "    audit_events.record(connection, action, by, job_id=job.id, job_type=job.job_type, detail=detail)\n", ""),
    _runner("A change of a start is made only together with its event", "ledger/lifecycle/start_changes", "    audit_events.record(connection, action, by, job_id=job.id, job_type=job.job_type, detail=detail)\n", "    try:\n        audit_events.record(connection, action, by, job_id=job.id, job_type=job.job_type, detail=detail)\n    except Exception:\n        pass\n"),
    _runner("A second ledger of an engine changes none of its listeners", "ledger/notify", "if engine in _HEARD:", "if False:"),
    _runner("Of any number of groups of failures, a notice reads the largest", "ledger/notices/notice_rows", "columns.group_key).limit(most)", "columns.group_key)"),
    _runner("A schedule that replaces its jobs has no unique key", "schedules/schedule", "self.timing.overlap == Overlap.REPLACE and", "False and"),
    _runner("Workers and sync are notified of a changed start", "ledger/lifecycle/start_changes", "request_notification(connection)", "pass"),
    _runner("Sync launches no suspended job", "sync/decide", "may_launch(row.job, now, patience.total_seconds())", "may_launch(row.job.evolve(suspended_at=None), now, patience.total_seconds())"),
    _runner("Sync passes a suspension on to the SpokeJob", "sync/decide", "        suspend = True\n", "        pass\n"),
    _runner("Sync resumes the SpokeJob of a resumed job", "sync/decide", "        suspend = False  #", "        pass  #"),
    _runner("Sync resumes no SpokeJob that people have suspended", "sync/decide", " and seen.suspended_by_sync:", " and seen.suspend:"),
    _runner("The row decides about the priority of a SpokeJob", "sync/decide", "if priority != seen.priority and", "if priority > seen.priority and"),
    _runner("Sync passes no priority on that a SpokeJob can't have", "sync/decide", " and abs(priority) <= PRIORITY_LIMIT else None", " else None"),
    _runner("Sync passes a changed start on without a comparison", "sync/leader_loop", "for row in _rows(found) if row.name in known", "for row in () if row.name in known"),
    _runner("A definition that allows no change of a start delays no other action", "sync/effects", "except Invalid as error:  # by a CustomResourceDefinition", "except NotFound as error:  # by a CustomResourceDefinition"),
    _shell("A SpokeJob takes its place in the order by its new priority", "admission/pacing", "            self._waiting[key] = candidate\n            self._admit_soon()", "            self._admit_soon()"),
    _runner("A command fails if a change of a start is refused", "cli/commands/start_commands", "return Exit.FAILED, str(error)", "return Exit.DONE, str(error)"),
    _runner("An event names who has run a job now by a command", "cli/commands/start_commands", "_changed(job_id, ledger.run_now, \"due now\", by)", "_changed(job_id, ledger.run_now, \"due now\", \"\")"),
    _runner("On the page, changes of a start need their own permission", "web/start_pages", "partial(self._act, name, change), JobAction.START)", "partial(self._act, name, change), JobAction.CANCEL)"),
    _runner("On the page, nobody changes the start of a job of another organization", "web/start_pages", "self._queries.job(job_id, viewer.narrowed()) is None", "self._ledger.get(job_id) is None"),
    _runner("An event names the viewer who has changed a start", "web/start_pages", "actor_name(line(viewer.name))", "actor_name(\"\")"),
)  # fmt: skip

_STANDBY = (
    _core("A standby pod that a status names is never deleted", "standby/pool", "if member.ended or member.reserved:", "if member.ended:"),
    _core("A standby pod of an earlier template is replaced", "standby/pool", "if not member.is_of(digest):", "if False:"),
    _core("The age of a standby pod counts from the start of its container", "standby/pool", "return max(made, since or made) + max_age", "return made + max_age"),
    _core("A standby pod whose secret is unknown is replaced", "standby/pool", "if not member.ours:", "if False:"),
    _core("A standby pod whose secret is unknown gets no attempt", "standby/pool", "return member.ready and member.ours and", "return member.ready and"),
    _core("A standby pod on a silent node gets no attempt", "standby/pool", " and not self.pod.node_silent", ""),
    _core("Each attempt that arrives while a standby pod is replaced finds another one", "standby/pool", "max(busiest, last - first + 1)", "max(busiest, last - first)"),
    _core("A job with resources of its own gets no standby pod", "standby/standby_offer", "if spec.resources is not None or spec.auto_requests", "if spec.auto_requests"),
    _core("After a lost standby pod the next attempt gets a pod of its own", "standby/standby_offer", "last.cause == Cause.STANDBY_LOST", "False"),
    _core("No attempt takes the standby pod of another SpokeJob", "standby/assignment", "is_free = job.spokejob.name == STANDBY_POOL and", "is_free ="),
    _core("A standby pod that has ended gets no attempt", "standby/assignment", "pod is not None and not has_ended", "pod is not None"),
    _core("How a standby pod ended counts more than whether it was told", "standby/assignment", "if has_ended:  # how", "if False:  # how"),
    _core("A job with a free standby pod passes the holds on new pods", "obstacles/holds", "if standby and self.standby.has(group):", "if False:"),
    _core("No more jobs pass these holds than standby pods are free", "obstacles/holds", "bump(self._free, group, -1)", "pass"),
    _core("A job that finds no free standby pod is counted like others", "obstacles/holds", "return self._takers.pop(key, None) if starts else None", "return None"),
    _shell("A standby pod that does not answer is given up", "standby/assignments", "is_over = memory.unanswered >= TRIES and", "is_over = False and"),
    _shell("A pod that an earlier leader may have told is not given up early", "standby/assignments", "(memory.took or now >= tell.until)", "True"),
    _core("A pod has its attempt's labels before it is told", "standby/assignment", "(*label, Step.TELL)", "(Step.TELL, *label)"),
    _core("A label that is refused stays refused", "standby/assignment", " and seen.told is not Told.FAILED else ()  # not", " else ()  # not"),
    _core("Before an attempt is lost, its Job is read", "standby/assignment", "Step.TELL)\n    return (Step.LOSE,) if live else (Step.READ,)", "Step.TELL)\n    return (Step.LOSE,)"),
    _core("A pod that never was ready is a failure", "standby/pool", "if not item.ready or not _was_disrupted(item)", "if not _was_disrupted(item)"),
    _shell("A Job that cannot be deleted stops no pool", "standby/standby_pools", "            if error.status not in REFUSALS:\n                raise\n            memory.delete_at", "            raise\n            memory.delete_at"),
    _shell("A pool is never given up", "reconciling/controller", "if key.name == STANDBY_POOL:  # it is", "if False:  # it is"),
    _contract("An attempt is the same whatever else the request says", "standby", "for name in _IDENTITY", "for name in (*_IDENTITY, environment.TIMEOUT)"),
    _shell("Standby pods that fail are tried again ever later", "standby/standby_pools", "RETRIES.after(memory.failures)", "RETRIES.after(1)"),
    _shell("Without the setting, the standby pods that wait are deleted", "standby/standby_pools", "bounds = bounds_of(template) if self._pods.keeps else NO_STANDBY", "bounds = bounds_of(template)"),
    _contract("Only who can make the secret assigns a standby pod", "standby", "hmac.compare_digest(verifier_of(secret), verifier)", "bool(verifier)"),
)  # fmt: skip

_WORKER = (
    _runner(
        "Jobs of both kinds that wait for one limit take turns by kind",
        "worker/claiming",
        "self._put_last(own if self._ledger.limits.limited else _OTHER[own])",
        "self._put_last(_OTHER[own])",
    ),
    _runner(
        "Jobs of both kinds that wait for one locked queue take turns by kind",
        "worker/claiming",
        "if unlocks:\n            self._put_last(kind)",
        "if unlocks:\n            pass",
    ),
    _runner(
        "A claim that left due jobs unseen comes again",
        "worker/claiming",
        "self._rest_due = min(self._rest_due, due)",
        "pass",
    ),
    _runner(
        "A search that begins behind the head says when to claim again",
        "ledger/claims/claim_search",
        "self.rest_due = cursor.head_due",
        "pass",
    ),
    _runner(
        "An order that is cancelled before its loop has begun it is not started",
        "worker/async_child",
        "self._stops[token] = self._stops[token] or reason",
        "pass",
    ),
    _runner(
        "A timeout of a process counts from the call of the function",
        "worker/enforcing",
        "runs = holder is not None and child.shared.is_called(holder)",
        "runs = holder is not None and not child.shared.has_ended(holder)",
    ),
    _runner(
        "A timeout of an event loop counts from the call of the function",
        "worker/enforcing",
        "if not child.shared.is_called(item.order.token):",
        "if child.shared.has_ended(item.order.token):",
    ),
    _runner(
        "An attempt whose commit was not answered is done",
        "execution/attempt",
        "if row is not None and row.state is JobState.SUCCEEDED:",
        "if False:",
    ),
    _runner(
        "Progress that a heartbeat did not write is written with the end",
        "execution/lease",
        "None if pulse is Pulse.HELD and self",
        "None if self",
    ),
    _runner(
        "Beside jobs, a worker starts its processes a few at a time",
        "worker/child_pool",
        "return starts_beside(starting, missing, processors) if busy else missing",
        "return missing",
    ),
    _runner(
        "What earlier jobs left in a process is not charged to the next",
        "worker/memory_watch",
        "allowed = own + min(left, own)",
        "allowed = own",
    ),
)
SECTIONS: Mapping[str, tuple[Break, ...]] = {
    "Admission": _ADMISSION,
    "Limits, pauses and turns": _LIMITS,
    "Limits and rates in the ledger": _LEDGER_LIMITS,
    "Changes of a job's start": _STARTS,
    "Holds": _HOLDS,
    "Quotas": _QUOTAS,
    "A database that is away": _DATABASE,
    "Room in the cluster": _ROOM,
    "Standby pods": _STANDBY,
    "Lifecycle": _LIFECYCLE,
    "How an attempt ended": _ENDS,
    "Init containers and sidecars": _CONTAINERS,
    "What is created": _PODS,
    "Decisions that fail": _UNDIAGNOSABLE,
    "Events": _EVENTS,
    "Objects of the cluster": _SEEING,
    "Leader election": _LEADING,
    "Text of others": _READERS,
    "The task server": _TASKS,
    "Rows of successful jobs": _FINISHED,
    "Processes of a worker": _WORKER,
}
"""By the headings of docs/breaks.md."""
BREAKS = tuple(item for items in SECTIONS.values() for item in items)
