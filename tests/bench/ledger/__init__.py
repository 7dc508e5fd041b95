"""The ledger's benchmark: this library beside other job queues, on one PostgreSQL (and on Redis), in one run.

==============  ================================================================================================
``__main__``    what `run` starts: reads the settings, goes through the rounds, reports
``catalogue``   the systems, and how users start those that only this benchmark measures
``systems``     one module for each of these: its job, and the client that enqueues it
``client``      the process that enqueues
``measure``     one system's measurements
``figures``     pure: from measurements to figures; ``report`` and ``plot`` show them
==============  ================================================================================================

The rest is in :mod:`tests.bench.lib`. The systems live in two virtual environments, so nothing here but ``systems``
imports one.
"""
