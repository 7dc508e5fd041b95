"""The benchmark of limits, schedules, batches and `why`, and of other job queues where they have the same.

==============  ================================================================================================
``__main__``    what `run` starts: goes through the rounds, reports
``claims``      claims beside limits
``batches``     the dispatch of a batch, and the ends of its jobs
``schedules``   ticks
``reasons``     `why` without an id
``peers``       starts the other systems, each in its own environment; ``systems`` has a program for each
``figures``     pure: from measurements to figures; ``report`` and ``plot`` show them
==============  ================================================================================================
"""
