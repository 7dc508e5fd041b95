"""Every cause that an operator can name, on a real cluster: each job here comes to grief in a way of its own.

All are submitted at once, each is hurt in a thread of its own, and the tests then look at what became of them. What
counts is told by an observer beside the operator (:mod:`..sightings`): when the cause could first be known from a Pod,
Job or Event, and when the SpokeJob said so. ``SPOKE_TEST_RECORD`` names a folder for what was seen (see
:mod:`..recording`).
"""

import pytest

pytest.register_assert_rewrite("tests.integration.operator.causes.scenes")  # its asserts say what they saw
