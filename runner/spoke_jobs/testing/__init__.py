"""For the tests of an application: a pytest plugin, and its helpers.

The plugin needs no import: its fixture is ``spoke_jobs``. See :mod:`spoke_jobs.testing.pytest_plugin`. To call a job's
function directly, ``from spoke_jobs.testing.contexts import fake_context``.
"""
