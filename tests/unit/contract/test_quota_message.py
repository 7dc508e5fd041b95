"""What the API server says of a ResourceQuota that is used up, read as fields."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from spoke_jobs.contract.quantities import in_bytes, in_one_unit
from spoke_jobs.contract.quota_message import QuotaRefusal, QuotaUse, quota_words, read_quota_refusal
from spoke_jobs.contract.retry import QUANTITY

FORBIDDEN = 'Error creating: pods "export-41-0a1b2c3d-1-x" is forbidden: '
PODS = QuotaUse("pods", "1", "5", "5")


@pytest.mark.parametrize(
    ("message", "quota", "uses"),
    [
        (f"{FORBIDDEN}exceeded quota: few, requested: pods=1, used: pods=5, limited: pods=5", "few", (PODS,)),
        (
            (
                f"(combined from similar events): {FORBIDDEN}exceeded quota: team.a, requested: limits.memory=1Gi,"
                "pods=1, used: limits.memory=3Gi,pods=5, limited: limits.memory=3Gi,pods=5"
            ),
            "team.a",
            (QuotaUse("limits.memory", "1Gi", "3Gi", "3Gi"), PODS),
        ),
        (
            (
                'jobs.batch "x-1" is forbidden: exceeded quota: jobs, requested: count/jobs.batch=1, '
                "used: count/jobs.batch=0, limited: count/jobs.batch=0"
            ),
            "jobs",
            (QuotaUse("count/jobs.batch", "1", "0", "0"),),
        ),
        (f"{FORBIDDEN}exceeded quota: few, requested: pods=1, used: po", "few", (QuotaUse("pods", "1"),)),
        (f"{FORBIDDEN}status unknown for quota: new, resources: pods", "new", ()),
        ("exceeded quota", "", ()),
        ("exceeded quota: ?!, requested", "", ()),
        ("", None, ()),
        (f'{FORBIDDEN}violates PodSecurity "restricted:latest"', None, ()),
        (f"{FORBIDDEN}failed quota: compute: must specify cpu for: job", None, ()),
        (f"{FORBIDDEN}insufficient quota to match these scopes: [{{PriorityClass In [high]}}]", None, ()),
    ],
)
def test_a_quota_that_is_used_up_is_named_with_what_is_short(
    message: str, quota: str | None, uses: tuple[QuotaUse, ...]
) -> None:
    assert read_quota_refusal(message) == (None if quota is None else QuotaRefusal(quota, uses))


NAMES = st.sampled_from(["a", "compute", "team.a", "few-jobs-2", "x" * 253])
RESOURCES = st.sampled_from(
    ["cpu", "pods", "requests.cpu", "limits.memory", "requests.nvidia.com/gpu", "count/jobs.batch", "count/pods"]
)
AMOUNTS = st.builds("{}{}".format, st.integers(0, 10**6), st.sampled_from(["", "m", "Ki", "Gi"]))


@given(NAMES, st.lists(st.builds(QuotaUse, RESOURCES, AMOUNTS, AMOUNTS, AMOUNTS), min_size=1, max_size=7,
                       unique_by=lambda use: use.resource))  # fmt: skip
def test_what_the_api_server_writes_is_read_back(quota: str, uses: list[QuotaUse]) -> None:
    parts = {
        "requested": ",".join(f"{use.resource}={use.requested}" for use in uses),
        "used": ",".join(f"{use.resource}={use.used}" for use in uses),
        "limited": ",".join(f"{use.resource}={use.hard}" for use in uses),
    }
    message = f"{FORBIDDEN}exceeded quota: {quota}, " + ", ".join(f"{name}: {text}" for name, text in parts.items())
    assert read_quota_refusal(message) == QuotaRefusal(quota, tuple(uses))


@given(st.text() | st.lists(st.sampled_from([
    "exceeded quota", ": ", "q", ", ", "requested", "used", "limited", "=", "pods", "1", ",", "\n", "\x00", "=" * 300
]), max_size=30).map("".join))  # fmt: skip
def test_any_text_is_read(message: str) -> None:
    found = read_quota_refusal(message)
    assert (found is None) == ("exceeded quota" not in message and "status unknown for quota" not in message) or found
    if found is not None:
        assert quota_words(found.quota, found.uses)
        assert len(found.uses) <= 10
        for use in found.uses:
            assert max(map(len, (use.requested, use.used, use.hard))) <= 40


@given(st.lists(AMOUNTS | st.from_regex(QUANTITY, fullmatch=True), max_size=3))
@example(["9" * 40, "1m"])
@example(["0.001m", "1Ei"])
def test_amounts_in_one_unit_are_the_same_amounts(quantities: list[str]) -> None:
    converted = in_one_unit(quantities)
    assert [in_bytes(quantity) for quantity in converted] == [in_bytes(quantity) for quantity in quantities]
    units = {quantity.lstrip("0123456789.") for quantity in converted if in_bytes(quantity)}
    assert len(units) <= 1 or converted == tuple(quantities)


@pytest.mark.parametrize(
    ("quota", "uses", "words"),
    [
        ("few", (PODS,), "quota few: pods 5 of 5 used, and the pod requests 1"),
        ("few", (), "quota few is used up"),
        ("", (), "a ResourceQuota is used up"),
        ("q", (QuotaUse("count/jobs.batch", "1", "0", "0"),),
         "quota q: the quota of count/jobs.batch is 0, and the Job requests 1"),
        ("q", (QuotaUse("cpu", "1"),), "quota q: cpu is used up, and the pod requests 1"),
        ("q", (QuotaUse("requests.memory", "1Gi", "2Gi", "0Gi"),),
         "quota q: the quota of requests.memory is 0, and the pod requests 1Gi"),
        ("q", (QuotaUse("cpu", "1", "0", "500m"),), "quota q: cpu 0 of 500m used, and the pod requests 1000m"),
        ("q", (QuotaUse("requests.memory", "1Gi", "32256Mi", "32Gi"),),
         "quota q: requests.memory 31.5Gi of 32Gi used, and the pod requests 1Gi"),
        ("q", (QuotaUse("limits.memory", "100Mi", "33000Mi", "32Gi"),),
         "quota q: limits.memory 33000Mi of 32768Mi used, and the pod requests 100Mi"),
        ("q", (QuotaUse("cpu", "500m", "3500m", "4"),), "quota q: cpu 3.5 of 4 used, and the pod requests 0.5"),
        ("q", (QuotaUse("memory", "1Mi", "1024", "1M"),),
         "quota q: memory 1024 of 1000000 used, and the pod requests 1048576"),
        ("q", (QuotaUse("cpu", "5u", "3500m", "4"),), "quota q: cpu 3500m of 4 used, and the pod requests 5u"),
    ],
)  # fmt: skip
def test_in_a_few_words(quota: str, uses: tuple[QuotaUse, ...], words: str) -> None:
    assert quota_words(quota, uses) == words
