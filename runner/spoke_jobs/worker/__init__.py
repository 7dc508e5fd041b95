"""``spoke-jobs worker``: claims jobs of the ``legacy`` runner and runs them in child processes.

The supervisor runs no job's code: a job that hangs, crashes or exhausts memory takes its child along, nothing else.
"""
