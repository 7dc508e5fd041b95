"""``spoke-jobs worker``: claim jobs of the ``legacy`` runner and run them in child processes.

The supervisor runs no job's code, so a job that hangs, crashes or runs out of memory affects its child process only.
"""
