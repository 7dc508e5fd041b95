"""The tasks' benchmark: this library's tasks beside other task queues, in one run, grouped by durability.

==============  ================================================================================================
``__main__``    what `run` starts: reads the settings, goes through the rounds, reports
``catalogue``   the systems and how their users start each; every command line is there
``systems``     the tasks and clients of those that the ledger's benchmark doesn't have
``client``      the process that dispatches
``usage``       what processes took of the processor
``measure``     one system's measurements
``figures``     pure: from measurements to rows, table and last line; ``plot`` draws them
``dispatch``    what one call of `dispatch_task` costs
==============  ================================================================================================

Marks, gates, services and processes are the ledger's benchmark's.
"""
