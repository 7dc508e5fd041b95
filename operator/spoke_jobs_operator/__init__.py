"""The operator, which turns SpokeJobs into Kubernetes Jobs. It uses no database.

``core`` makes the decisions, in pure functions. ``shell`` watches, writes and waits, and makes no decision.
"""
