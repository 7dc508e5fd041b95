"""What the page on outages promises of sync (docs/operating.md), for each of its times: by the model's clock.

While sync is away, jobs whose SpokeJob exists go on. The rest waits, and is done at its return.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from tests.unit.sync.making import NOW, row
from tests.unit.sync.test_interleavings import World

from spoke_jobs.contract.causes import cause_class
from spoke_jobs.contract.custom_resources.spokejob import LedgerState, Outcome
from spoke_jobs.contract.retry import OWN_BACKOFF
from spoke_jobs.model import JobState
from spoke_jobs.sync.decide import compare
from spoke_jobs.sync.sync_model import AttemptView, Launch

TIMES = pytest.mark.parametrize("seconds", [10, 60, 600, 7200])


class Absence(World):
    """Sync is away from NOW on."""

    def dispatched(self, number: int, *, launched: bool = True, **changes: Any) -> str:
        """A job that was dispatched meanwhile, and whether the application has created its SpokeJob."""
        fresh = row(id=number, created_at=NOW, updated_at=NOW, **changes)
        self.rows[fresh.name] = fresh
        if launched:
            self.create(fresh.name)
            self.record_submitted(fresh.name)
        return fresh.name

    def runs(self, name: str) -> None:
        self.start_attempt(name)
        self.pods[name].claimed = True
        self.change(name, live=1, state=JobState.RUNNING, attempt=1)

    def loses_its_node(self, name: str) -> None:
        """The operator records the end. The pod could not."""
        del self.pods[name]
        attempts = (AttemptView(1, True, "NodeLost", ""),)
        self.put(self.cluster[name], outcome=Outcome.WAITING, cause="NodeLost", attempts=attempts)

    def returns(self, seconds: float) -> None:
        """Sync compares rows and cluster, and carries out what it decides."""
        self.actions = compare(self.rows.values(), self.cluster, NOW + timedelta(seconds=seconds))
        while self.actions:
            self.carry_out(self.actions.pop(0))


@TIMES
def test_sync(seconds: float) -> None:
    world = Absence()
    ran = world.dispatched(1)
    lost = world.dispatched(2)
    cancelled = world.dispatched(3)
    waiting = world.dispatched(4)
    unlaunched = world.dispatched(5, launched=False)
    due_meanwhile = world.dispatched(6, launched=False, run_after=NOW + timedelta(seconds=seconds / 2))
    due_later = world.dispatched(7, launched=False, run_after=NOW + timedelta(seconds=seconds + 1))

    for name in (ran, lost, cancelled):
        world.runs(name)
    world.change(ran, live=None, state=JobState.SUCCEEDED, status=100)
    world.succeeded.add(ran)
    world.end_attempt(ran, last=True)
    world.loses_its_node(lost)
    world.change(cancelled, cancel_requested_at=NOW)
    assert world.cluster.keys().isdisjoint({unlaunched, due_meanwhile, due_later}), "they wait for sync"
    assert not world.cluster[cancelled].cancel, "so does the cancellation"
    before = dict(world.rows)

    world.returns(seconds)

    assert {name: world.created.get(name, 0) for name in world.rows} == {
        **dict.fromkeys(world.rows, 1),
        due_later: 0,
    }, "each is launched once, when it is due"
    assert world.rows[unlaunched].begun
    assert world.rows[due_meanwhile].begun
    assert world.cluster[ran].ledger is LedgerState.SUCCEEDED
    assert world.cluster[cancelled].cancel
    job = world.rows[lost].job
    assert (job.state, job.cause, world.rows[lost].live) == (JobState.WAITING, "NodeLost", None)
    assert cause_class(job.cause) in OWN_BACKOFF, "that is not charged"
    assert world.rows[waiting] == before[waiting]
    assert not any(item.job.state is JobState.FAILED for item in world.rows.values())

    later = timedelta(seconds=seconds + 1)
    assert compare(world.rows.values(), world.cluster, NOW + later) == [Launch(world.rows[due_later])]
