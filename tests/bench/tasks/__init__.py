"""The tasks' benchmark: this library's tasks beside other task queues, in one run, grouped by durability.

==============  ================================================================================================
``__main__``    what `run` starts: reads the settings, goes through the rounds, reports
``catalogue``   the systems, and how users start those that only this benchmark measures
``systems``     one module for each of these: its task, and the client that dispatches it
``client``      the process that dispatches
``usage``       what processes took of the processor
``measure``     one system's measurements
``figures``     pure: from measurements to rows, table and last line; ``plot`` draws them
``dispatch``    what one call of `dispatch_task` costs
==============  ================================================================================================

The rest is in :mod:`tests.bench.lib`.
"""
