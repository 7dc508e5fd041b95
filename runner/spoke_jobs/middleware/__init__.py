"""Middleware: hooks of an application around dispatches, attempts of jobs and runs of tasks.

`hooks.py` has the hooks; `execution/hooked_functions.py` calls them around an attempt.
"""
