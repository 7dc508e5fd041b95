"""``spoke-jobs worker``: claim jobs of the ``legacy`` runner and run them in child processes.

The supervisor never runs a job's code. A job that hangs, crashes or runs out of memory affects its child process only.
"""
