"""The operator that turns SpokeJobs into Kubernetes Jobs; it knows nothing of SQL.

``core`` decides, and is pure; ``shell`` watches, writes and waits, and decides nothing.
"""
