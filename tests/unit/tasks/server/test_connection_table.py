"""Which connections are closed when there are too many: never one that has shown valid credentials."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from spoke_jobs.tasks.server.connection_table import Admission, ConnectionLimits, ConnectionTable, Slot

SMALL = ConnectionLimits(total=3, peer=2, probes=1)


def opened(table: ConnectionTable, peer: str) -> Slot:
    slot = table.open(peer).slot
    assert slot is not None
    return slot


def test_a_full_table_closes_the_oldest_unproven_connection_of_the_peer_that_has_the_most() -> None:
    table = ConnectionTable(ConnectionLimits(total=4, peer=3, probes=1))
    innocent = opened(table, "10.0.0.1")
    flood = [opened(table, "10.0.0.2") for _ in range(3)]
    admission = table.open("10.0.0.3")
    assert admission.displaced is flood[0]
    assert admission.slot is not None
    assert not admission.slot.only_get
    assert table.open("10.0.0.4").displaced is flood[1]
    assert innocent is not None
    assert table.closed["displaced"] == 2


def test_a_peer_at_its_limit_displaces_only_its_own_and_is_refused_if_all_are_proven() -> None:
    table = ConnectionTable(SMALL)
    first, second = opened(table, "10.0.0.1"), opened(table, "10.0.0.1")
    table.prove(first)
    admission = table.open("10.0.0.1")
    assert admission.displaced is second
    assert admission.slot is not None
    table.prove(admission.slot)
    assert table.open("10.0.0.1") == Admission(None, refused="peer")
    assert opened(table, "10.0.0.2") is not None


def test_if_all_are_proven_only_probes_get_in_and_a_newer_one_displaces_the_oldest() -> None:
    table = ConnectionTable(SMALL)
    for number in range(3):
        table.prove(opened(table, f"10.0.0.{number}"))
    probe = opened(table, "10.0.1.1")
    assert probe.only_get
    admission = table.open("10.0.1.2")
    assert admission.displaced is probe
    assert admission.slot is not None
    assert admission.slot.only_get
    none = ConnectionTable(ConnectionLimits(total=1, peer=1, probes=0))
    none.prove(opened(none, "10.0.0.1"))
    assert none.open("10.0.0.2") == Admission(None, refused="full")
    assert none.closed["full"] == 1


class Tables(RuleBasedStateMachine):
    """Whatever peers do, the limits hold and nobody proven is displaced."""

    def __init__(self) -> None:
        super().__init__()
        self.table = ConnectionTable(SMALL)
        self.open: list[Slot] = []
        self.proven: set[int] = set()

    @rule(peer=st.sampled_from("abcd"))
    def connect(self, peer: str) -> None:
        admission = self.table.open(peer)
        if admission.displaced is not None:
            assert id(admission.displaced) not in self.proven
            self.open.remove(admission.displaced)
        if admission.slot is not None:
            self.open.append(admission.slot)

    @rule(which=st.integers(0, 3))
    def prove(self, which: int) -> None:
        if which < len(self.open) and not self.open[which].only_get:
            self.table.prove(self.open[which])
            self.proven.add(id(self.open[which]))

    @rule(which=st.integers(0, 3), times=st.integers(1, 2))
    def end(self, which: int, times: int) -> None:
        if which < len(self.open):
            slot = self.open.pop(which)
            self.proven.discard(id(slot))
            for _ in range(times):
                self.table.remove(slot)

    @invariant()
    def limits_hold(self) -> None:
        assert len(self.table) == len(self.open) <= SMALL.total + SMALL.probes
        assert all(sum(slot.peer == peer for slot in self.open) <= SMALL.peer for peer in "abcd")
        assert self.table.unproven == len(self.open) - sum(id(slot) in self.proven for slot in self.open)


TestTables = Tables.TestCase
TestTables.settings = settings(
    max_examples=100, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
