"""Schedules: when the occurrences of a job are due, and what follows from that. Pure; the ledger has the rows."""
