"""What the benchmarks share.

==============  ================================================================================================
``system``      a system that is measured, and the store that it works on
``peers``       how users start those that both benchmarks of queues measure; ``systems``, their jobs and clients
``jobs``        what every job does, gates included; ``marks``, where it writes when it began and ended
``client``      what a system's client must offer; ``orders``, what a process does with one
``place``       where systems are measured: an empty store, an environment, a worker that works its backlog off
``services``    PostgreSQL and Redis; ``processes``: workers, and commands that answer; ``proc``: what /proc says
``database``    a fresh one with the ledger's tables, for what measures this library alone
``settings``    what every run can be told by the environment
``rounds``      systems in shuffled order, again and again while there is time
``conditions``  versions and settings: what a reader has to know to believe a table; ``machine``: where and when
``figures``     pure: percentiles
``report``      pure: numbers, a section of docs/benchmarks.md, the last line; ``plot``: bars
``run``         a whole run, from the settings to the page
==============  ================================================================================================

The systems live in two virtual environments, so what a client imports imports none of them, and no driver.
"""
