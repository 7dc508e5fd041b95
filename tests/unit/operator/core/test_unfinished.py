from __future__ import annotations

from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.operator.core.objects import NOW

from spoke_jobs_operator.core.admission.admit import Age, Unfinished
from spoke_jobs_operator.core.objects.api_objects import Key

KEYS = st.builds(Key, st.sampled_from("ab"), st.sampled_from("uvwxyz"))
STEPS = st.lists(st.tuples(st.booleans(), KEYS, st.integers(0, 3)))


@settings(deadline=None)
@given(STEPS)
def test_it_counts_as_a_sorted_list_does(steps: list[tuple[bool, Key, int]]) -> None:
    counted, known = Unfinished(), dict[Key, Age]()
    for adds, key, seconds in steps:
        age = (NOW + timedelta(seconds=seconds), 0, key)
        if adds:
            counted.add(key, age)
            known.setdefault(key, age)
        else:
            assert counted.remove(key) is (known.pop(key, None) is not None)
        for namespace in "ab":
            assert counted.count(namespace) == sum(other.namespace == namespace for other in known)
        mine = known.get(key, age)
        older = sum(other.namespace == key.namespace and at < mine for other, at in known.items())
        assert counted.older_than(key, age) == older
