"""The ledger's benchmark: this library beside other job queues, on one PostgreSQL (and on Redis), in one run.

==============  ================================================================================================
``__main__``    what `run` starts: reads the settings, goes through the rounds, reports
``catalogue``   the systems and how their users start each; every command line is there
``systems``     one module for each system: its job, and the client that enqueues it
``jobs``        what every job does; ``marks``, where it writes when it began and ended
``client``      what a system's client must offer, and the process that enqueues
``measure``     one system's measurements; ``services``, ``processes``: what they run on
``figures``     pure: from measurements to figures; ``report`` and ``plot`` show them
==============  ================================================================================================

The systems live in two virtual environments, so nothing here but ``systems`` imports one.
"""
