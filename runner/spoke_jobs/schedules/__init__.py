"""Schedules: when the occurrences of a job are due, and what follows from that. Pure; the ledger has the rows.

`timing.py` says when a schedule is due, `occurrences.py` which occurrences are dispatched.
"""
