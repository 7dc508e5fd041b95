"""Run the tests, those marked ``alone`` after all others, and what failed once more.

A test that passes then is flaky: it is listed, and does not fail the run.
The idea is that of ginkgo's flake attempts, with a budget and a record, so that nothing is hidden.
"""
